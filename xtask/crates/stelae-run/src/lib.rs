//! Effects.

pub mod files;

pub mod render;

pub mod bundle;
