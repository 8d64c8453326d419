//! Status listeners: consumers of events that tell people or other systems.
