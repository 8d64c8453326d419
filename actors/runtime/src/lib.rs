//! Supervised actors: factories, restart policies, Fronts, registry, time source, test world. Knows no domain word.
