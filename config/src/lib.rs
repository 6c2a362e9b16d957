//! From TOML to a validated plan.
