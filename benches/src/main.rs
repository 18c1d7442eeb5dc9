//! `kmirror-bench`: what `cargo xtask bench` builds and runs.

use std::process::ExitCode;

use clap::Parser;
use kmirror_benches::{
    Error,
    arguments::{Alone, Arguments, CeilingArguments, Part},
    floor, live, load, matrix, render, say,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Ceiling(ceiling)) => alone(ceiling),
        Some(Part::Latency(latency)) => floor::block_on(live::latency::compare(latency)),
        Some(Part::Idle(idle)) => floor::block_on(live::idle::compare(idle)),
        Some(Part::Link(link)) => floor::block_on(live::link::compare(link)),
        Some(Part::Report(report)) => render::render(&report.directory).map(|()| true),
        None => floor::block_on(matrix::compare(&arguments.compare)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say::chain(&error);
            ExitCode::FAILURE
        }
    }
}

fn alone(arguments: &CeilingArguments) -> Result<bool, Error> {
    let CeilingArguments { alone, bootstrap, topic, threads, loads } = arguments;
    let Some(case) = loads.cases().into_iter().next() else { return Ok(false) };
    let ceiling = match alone {
        Alone::Fetch => floor::fetch(bootstrap, topic, &case, *threads)?,
        Alone::Produce => {
            load::produce(bootstrap, topic, (&case, case.partitions.destination), *threads)?
        }
    };
    say::result(&serde_json::to_string(&ceiling).expect("invariant: a ceiling is plain data"));
    Ok(true)
}
