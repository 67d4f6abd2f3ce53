//! Reads the log and commits its net effects with the position they bring.
