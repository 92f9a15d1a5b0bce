//! What starts tasks and Lambdas without SSM: it reads a mirror from Redis, and gives it to a program.

pub mod ssm;
