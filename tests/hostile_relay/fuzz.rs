pub(crate) fn random_messages_lead_nowhere() {}
