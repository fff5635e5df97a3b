//! Data folders of many kinds: what is read, noted and refused.
