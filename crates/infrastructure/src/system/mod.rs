//! The system's clocks and random numbers.
