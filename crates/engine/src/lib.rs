//! The stages ingest, evaluate and dispatch, and the board they publish to.
