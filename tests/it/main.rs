//! Tests of the whole house in one binary: each further binary would link DataFusion again.

mod command_line;
mod data_quality;
mod differential;
mod exactly_once;
mod house;
mod identity;
mod landing;
mod law;
mod layers;
mod one_customer;
mod outputs;
mod python;
mod queries;
mod readme;
mod rebuilt_safely;
mod sample_projects;
mod sqllogic;
mod watch;
