//! A self-hosted serverless engine in one binary.
