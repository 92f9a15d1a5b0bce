//! The layouts parameter-mirror stores, and the Redis connection that operator and reader share.
