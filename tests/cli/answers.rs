//! What evaluation, embedding and search answer, and what they say about it.
