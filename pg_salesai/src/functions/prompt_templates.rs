//! Prompt templates.

use domain::prompt_template::{PromptTemplate, Task};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;

#[pg_extern(sql = "")]
fn prompt_tasks() -> Vec<&'static str> {
    Task::ALL.map(Task::name).to_vec()
}

#[pg_extern(sql = "")]
fn built_in_prompt(task: &str) -> Option<&'static str> {
    Task::named(task).ok().map(Task::built_in_text)
}

#[pg_extern(sql = "")]
fn check_prompt_template(task: Option<&str>, text: Option<&str>) -> Result<(), ErrorReport> {
    Ok(checked(task, text)?)
}

fn checked(task: Option<&str>, text: Option<&str>) -> Result<(), Error> {
    let task = Task::named(task.unwrap_or_default())?;
    PromptTemplate::parse(task, text.unwrap_or_default())?;
    Ok(())
}
