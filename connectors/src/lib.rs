//! The outside world: gateway, webhooks, OAuth, sync and platforms. `README.md` says what comes.
