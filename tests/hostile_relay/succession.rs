pub(crate) fn a_relay_that_does_not_hand_back_is_ended() {}
