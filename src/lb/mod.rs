//! What is said to marathon-lb: the reload signal and how its answer is read.
