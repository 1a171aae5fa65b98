//! What happened in the shop: generated message types, both decoders, validation.
