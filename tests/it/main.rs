//! Tests of the whole house in one binary: each further binary would link DataFusion again.

mod arrivals;
mod backfill;
mod command_line;
mod data_quality;
mod differential;
mod exactly_once;
mod fail_points;
mod faults;
mod house;
mod identity;
mod kills;
mod landing;
mod law;
mod layers;
mod maintain;
mod one_customer;
mod outputs;
mod python;
mod queries;
mod readme;
mod replay;
mod rebuilt_safely;
mod sample_projects;
mod schedulers;
mod sqllogic;
mod watch;
