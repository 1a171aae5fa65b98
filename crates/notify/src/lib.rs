//! The notifier: render, send, classify the answer; one file a channel.
