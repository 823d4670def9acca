//! Marathon's documents: apps, their labels, and events. Never speaks HTTP.
