//! What Chat and Messages share.
