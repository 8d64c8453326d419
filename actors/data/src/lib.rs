//! The data layer: DataActor, its cache and feed, and the facets Ro, Control, Rw, ListenerState.
