//! Files to events: JSON lines, and CSV by mapping.
