//! The topic bus: a Broker actor and a topic index.
