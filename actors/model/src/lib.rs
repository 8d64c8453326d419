//! Domain values shared by every layer: ids, results, entities, topics, clocks, restart policies. No I/O, no actix.
