//! Change sources, schedulers, builders, builds, steps, locks and properties as actors.
