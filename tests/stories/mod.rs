//! What users do.

mod straight_line;
