//! The routes, asked in-process over a board that real stages have filled.
