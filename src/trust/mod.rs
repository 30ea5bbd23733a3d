//! The trust rules of `hosts.equiv` and `.rhosts`: who gets in without a password.
