//! Typed settings: layered TOML and environment, one file per section, all faults at once.
