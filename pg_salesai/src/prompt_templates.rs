//! Which prompt template a task has now: `sql/schema/69_prompt_templates.sql`. The built-in ones are in the code, so
//! that nothing needs to be read where nobody changed any.

use domain::prompt_template::{PromptTemplate, Task};
use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, Spi};
use proto::wire::ModelKind;

use crate::errand;
use crate::error::Error;
use crate::generation;
use crate::schema;
use crate::sidecar::{Deadline, find_model};

/// The built-in template of each task.
const BUILT_IN_VERSION: i32 = 1;

/// What a template is chosen by.
pub struct Wanted<'a> {
    pub task: Task,
    /// None: the active one.
    pub version: Option<i32>,
    pub model: Option<&'a str>,
    pub adapter: Option<&'a str>,
    pub deadline: Deadline,
}

/// A template, and its version of the task.
pub struct Chosen {
    pub version: i32,
    pub template: PromptTemplate,
}

impl Wanted<'_> {
    /// The version that was named; else the active one for the model, for any model, or the built-in one.
    pub fn choose(&self) -> Result<Chosen, Error> {
        let version = match self.version {
            Some(version) => version,
            None => self.active_version()?,
        };
        let template = match version {
            BUILT_IN_VERSION => PromptTemplate::built_in(self.task),
            version => {
                let text = errand::ask(|| text(self.task, version))?;
                PromptTemplate::parse(self.task, &text)?
            }
        };
        Ok(Chosen { version, template })
    }

    fn active_version(&self) -> Result<i32, Error> {
        let model = match errand::ask(|| active_for(self.task))? {
            ActiveFor::None => return Ok(BUILT_IN_VERSION),
            ActiveFor::AnyModel => None,
            ActiveFor::SomeModel => self.model_name()?,
        };
        errand::ask(|| {
            let version = one(
                "select salesai.active_prompt_version($1, $2)",
                &[self.task.name().into(), model.as_deref().into()],
            )?;
            Ok(version.unwrap_or(BUILT_IN_VERSION))
        })
    }

    /// The model that is asked, which an adapter brings, or the sidecar knows; None where it serves none by default.
    fn model_name(&self) -> Result<Option<String>, Error> {
        let context = generation::checked_context(self.model, self.adapter)?;
        match (context.adapter, self.model) {
            (Some(adapter), _) => Ok(Some(adapter.model)),
            (None, Some(model)) => Ok(Some(model.to_owned())),
            (None, None) => {
                let model = find_model(ModelKind::Language, None, self.deadline)?;
                Ok(model.map(|model| model.name))
            }
        }
    }
}

/// Whether it must be known which model is asked.
enum ActiveFor {
    /// Nobody changed anything, or the schema is of before templates came.
    None,
    AnyModel,
    SomeModel,
}

fn active_for(task: Task) -> Result<ActiveFor, Error> {
    if !schema::has_relation("salesai.prompt_template")? {
        return Ok(ActiveFor::None);
    }
    let names_model = one(
        "select bool_or(t.model is not null) from salesai.prompt_template t where t.task = $1 and t.state = 'active'",
        &[task.name().into()],
    )?;
    Ok(match names_model {
        None => ActiveFor::None,
        Some(false) => ActiveFor::AnyModel,
        Some(true) => ActiveFor::SomeModel,
    })
}

fn text(task: Task, version: i32) -> Result<String, Error> {
    if !schema::has_relation("salesai.prompt_template")? {
        return Err(Error::OldSchema);
    }
    let text = one(
        "select (select t.text from salesai.prompt_template t where t.task = $1 and t.version = $2)",
        &[task.name().into(), version.into()],
    )?;
    text.ok_or(Error::NoPromptTemplate {
        task: task.name(),
        version,
    })
}

/// The value of one row. `Spi::get_one` would assign a transaction id.
fn one<T: FromDatum + IntoDatum>(
    question: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>, Error> {
    Spi::connect(|client| {
        let rows = client.select(question, Some(1), arguments)?;
        Ok(rows.first().get_one()?)
    })
}
