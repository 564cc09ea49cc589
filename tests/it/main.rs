//! Tests of the whole house in one binary: each further binary would link DataFusion again.

mod queries;
