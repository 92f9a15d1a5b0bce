//! Real parts under test control.
