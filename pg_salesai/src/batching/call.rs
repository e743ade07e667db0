//! A call that is made for many rows.

use std::ffi::{CStr, CString, c_int};
use std::mem::{offset_of, size_of};
use std::ptr;
use std::time::{Duration, Instant};

use pgrx::{pg_sys, prelude::*};

use super::batch::memory_below;
use super::calls::ArrayForm;
use super::pace::{self, Pace};
use super::rewriting::nodes;
use crate::config;
use crate::usage::{self, Measure};

/// A value, and whether it is NULL.
pub type Value = (pg_sys::Datum, bool);
const NULL: Value = (pg_sys::Datum::null(), true);

/// A call as the executor makes it.
pub struct Call {
    name: CString,
    /// Its arguments, of which one is the document.
    arguments: Vec<*mut pg_sys::ExprState>,
    collation: pg_sys::Oid,
    /// The form for many documents; None where there is none any more, or the caller may not call it.
    many: Option<Many>,
    /// The call as it is written.
    alone: *mut pg_sys::ExprState,
    element: Element,
    pace: Pace,
}

/// The form for many documents.
struct Many {
    form: ArrayForm,
    function: *mut pg_sys::FmgrInfo,
}

/// How an array has its elements.
#[derive(Default)]
struct Element {
    oid: pg_sys::Oid,
    length: i16,
    is_by_value: bool,
    alignment: std::ffi::c_char,
}

#[allow(unsafe_code)]
impl Call {
    /// # Safety
    /// The node is being started, and the call one that reads its row.
    pub unsafe fn new(call: *mut pg_sys::FuncExpr, parent: *mut pg_sys::PlanState) -> Self {
        // SAFETY: by the caller.
        unsafe {
            // It checks the caller's right to call it.
            let alone = pg_sys::ExecInitExpr(call.cast(), parent);
            let arguments = nodes((*call).args).into_iter();
            let memory = (*(*parent).state).es_query_cxt;
            Self {
                name: CStr::from_ptr(pg_sys::get_func_name((*call).funcid)).into(),
                arguments: arguments
                    .map(|argument| pg_sys::ExecInitExpr(argument.cast(), parent))
                    .collect(),
                collation: (*call).inputcollid,
                many: ArrayForm::of((*call).funcid).and_then(|form| {
                    let function = function(form.oid, memory)?;
                    Some(Many { form, function })
                }),
                alone,
                element: Element::of((*call).funcresulttype),
                pace: Pace::default(),
            }
        }
    }

    pub fn name(&self) -> &CString {
        &self.name
    }

    /// The row and the expression that are evaluated after so many: the arguments that are the same for all rows, then
    /// the document of each. A row that is not there ends it.
    pub fn expression(&self, done: usize) -> (usize, *mut pg_sys::ExprState) {
        let Some(many) = &self.many else {
            return (done, self.alone);
        };
        let documents = many.form.documents;
        let others = self.arguments.len() - 1;
        match done < others {
            true => (0, self.arguments[done + usize::from(done >= documents)]),
            false => (done - others, self.arguments[documents]),
        }
    }

    /// Whether the expression after so many gives a document, which is text.
    pub fn is_document(&self, done: usize) -> bool {
        self.many.is_some() && done + 1 >= self.arguments.len()
    }

    /// A value for each row, of what its expressions gave; they live in this memory.
    ///
    /// # Safety
    /// The values are those of the expressions, and live.
    pub unsafe fn values(
        &mut self,
        given: &[Value],
        rows: usize,
        memory: pg_sys::MemoryContext,
    ) -> Vec<Value> {
        let Some(many) = &self.many else {
            return given.to_vec();
        };
        let (others, documents) = given.split_at(given.len() - rows);
        let mut values = vec![NULL; rows];
        let is_strict = many.form.is_strict;
        if is_strict && others.iter().any(|&(_, is_null)| is_null) {
            return values;
        }
        let asked = (0..rows).filter(|&row| !(is_strict && documents[row].1));
        let mut asked: &[usize] = &asked.collect::<Vec<usize>>();
        // SAFETY: by the caller.
        unsafe {
            let limit = self.limit(others);
            let call_memory = memory_below(memory);
            while !asked.is_empty() {
                let bytes = asked.iter().map(|&row| byte_count(documents[row]));
                let (now, later) = asked.split_at(self.pace.documents(bytes, limit));
                let texts: Vec<Value> = now.iter().map(|&row| documents[row]).collect();
                let outer = pg_sys::MemoryContextSwitchTo(call_memory);
                let said = self.call(others, &texts, limit);
                pg_sys::MemoryContextSwitchTo(memory);
                for (&row, value) in now.iter().zip(said) {
                    values[row] = self.element.copied(value);
                }
                pg_sys::MemoryContextSwitchTo(outer);
                pg_sys::MemoryContextReset(call_memory);
                asked = later;
            }
            pg_sys::MemoryContextDelete(call_memory);
        }
        values
    }

    /// What the function says of some documents.
    unsafe fn call(&mut self, others: &[Value], texts: &[Value], limit: Duration) -> Vec<Value> {
        let Some(many) = &self.many else {
            return Vec::new();
        };
        let (begin, before) = (Instant::now(), usage::total());
        let mut given = others.to_vec();
        // SAFETY: by the caller.
        let said = unsafe {
            given.insert(many.form.documents, (text_array(texts), false));
            if let Some(at) = many.form.timeout {
                given[at] = timeout(given[at], limit, texts.len());
            }
            if many.form.has_error_ratio {
                // As with single rows, each error is of its document.
                given.push((1.0_f64.into_datum().unwrap_or(NULL.0), false));
            }
            self.elements(invoked(many.function, self.collation, &given))
        };
        if said.len() != texts.len() {
            let name = self.name.to_string_lossy();
            error!(
                "{name} has {} results for {} documents",
                said.len(),
                texts.len()
            );
        }
        let used = usage::total() - before;
        let asked = used
            .get(Measure::Calls)
            .max(used.get(Measure::EmbeddedTexts));
        let asked = usize::try_from(asked).unwrap_or(0).min(texts.len());
        // SAFETY: by the caller.
        let bytes = texts.iter().map(|&text| unsafe { byte_count(text) }).sum();
        self.pace.learn(texts.len(), bytes, asked, begin.elapsed());
        said
    }

    /// The time limit of one call; `others` are the arguments without the document.
    fn limit(&self, others: &[Value]) -> Duration {
        let form = self.many.as_ref().map(|many| &many.form);
        let place = form.and_then(|form| {
            let place = form.timeout?;
            Some(place - usize::from(place > form.documents))
        });
        match place.map(|place| others[place]) {
            Some((given, false)) => {
                let ms = u64::try_from(given.value() as i32).unwrap_or(0);
                Duration::from_millis(ms)
            }
            _ => config::timeout(),
        }
    }

    unsafe fn elements(&self, array: Value) -> Vec<Value> {
        let (mut values, mut nulls) = (ptr::null_mut(), ptr::null_mut());
        let mut count = 0;
        if array.1 {
            return Vec::new();
        }
        // SAFETY: an array of such elements, as of its form.
        unsafe {
            pg_sys::deconstruct_array(
                pg_sys::pg_detoast_datum(array.0.cast_mut_ptr()).cast(),
                self.element.oid,
                self.element.length.into(),
                self.element.is_by_value,
                self.element.alignment,
                &mut values,
                &mut nulls,
                &mut count,
            );
            let count = usize::try_from(count).unwrap_or(0);
            (0..count)
                .map(|at| (*values.add(at), *nulls.add(at)))
                .collect()
        }
    }
}

impl Element {
    fn of(oid: pg_sys::Oid) -> Self {
        let mut element = Self {
            oid,
            ..Self::default()
        };
        // SAFETY: a look into the catalog.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::get_typlenbyvalalign(
                oid,
                &mut element.length,
                &mut element.is_by_value,
                &mut element.alignment,
            );
        }
        element
    }

    /// The value in the current memory.
    ///
    /// # Safety
    /// It is of this type, and lives.
    #[allow(unsafe_code)]
    unsafe fn copied(&self, (value, is_null): Value) -> Value {
        match is_null {
            true => NULL,
            // SAFETY: by the caller.
            false => unsafe { (copy(value, self.is_by_value, self.length.into()), false) },
        }
    }
}

// pgrx lacks it.
#[allow(unsafe_code)]
unsafe extern "C-unwind" {
    fn datumCopy(value: pg_sys::Datum, is_by_value: bool, length: c_int) -> pg_sys::Datum;
}

/// A text in the current memory.
///
/// # Safety
/// It is one, and lives.
#[allow(unsafe_code)]
pub unsafe fn copied_text(text: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: by the caller.
    unsafe { copy(text, false, -1) }
}

#[allow(unsafe_code)]
unsafe fn copy(value: pg_sys::Datum, is_by_value: bool, length: c_int) -> pg_sys::Datum {
    // SAFETY: by the caller, a value of a type with that length.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| datumCopy(value, is_by_value, length)) }
}

/// Bytes of a text.
///
/// # Safety
/// It is one, and lives.
#[allow(unsafe_code)]
pub unsafe fn byte_count((text, is_null): Value) -> usize {
    match is_null {
        true => 0,
        // SAFETY: by the caller.
        false => unsafe { pg_sys::toast_raw_datum_size(text) },
    }
}

/// Texts as `text[]`.
#[allow(unsafe_code)]
unsafe fn text_array(texts: &[Value]) -> pg_sys::Datum {
    let (mut texts, mut nulls): (Vec<pg_sys::Datum>, Vec<bool>) = texts.iter().copied().unzip();
    let mut count = i32::try_from(texts.len()).unwrap_or(i32::MAX);
    let mut lower_bound = 1;
    // SAFETY: by the caller, texts, as many as flags.
    unsafe {
        pg_sys::construct_md_array(
            texts.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            &mut count,
            &mut lower_bound,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
        )
        .into()
    }
}

/// The time limit of a call about so many documents; one that is refused stays as it is.
fn timeout(given: Value, limit: Duration, documents: usize) -> Value {
    let several = limit.as_millis() * pace::limits_in_time(documents) as u128;
    let several = i32::try_from(several).unwrap_or(i32::MAX);
    match several > 0 {
        true => (several.into_datum().unwrap_or(given.0), false),
        false => given,
    }
}

/// The function, where the caller may call it.
#[allow(unsafe_code)]
unsafe fn function(
    oid: pg_sys::Oid,
    memory: pg_sys::MemoryContext,
) -> Option<*mut pg_sys::FmgrInfo> {
    // SAFETY: by the caller, memory of the query.
    unsafe {
        let role = pg_sys::GetUserId();
        let right = pg_sys::object_aclcheck(
            pg_sys::ProcedureRelationId,
            oid,
            role,
            pg_sys::ACL_EXECUTE as pg_sys::AclMode,
        );
        if right != pg_sys::AclResult::ACLCHECK_OK {
            return None;
        }
        let function = pg_sys::MemoryContextAllocZero(memory, size_of::<pg_sys::FmgrInfo>());
        pg_sys::fmgr_info_cxt(oid, function.cast(), memory);
        Some(function.cast())
    }
}

#[allow(unsafe_code)]
unsafe fn invoked(
    function: *mut pg_sys::FmgrInfo,
    collation: pg_sys::Oid,
    arguments: &[Value],
) -> Value {
    // SAFETY: by the caller, arguments of the function's types, as many as it has.
    unsafe {
        let bytes = offset_of!(pg_sys::FunctionCallInfoBaseData, args)
            + arguments.len() * size_of::<pg_sys::NullableDatum>();
        let call: pg_sys::FunctionCallInfo = pg_sys::palloc0(bytes).cast();
        (*call).flinfo = function;
        (*call).fncollation = collation;
        (*call).nargs = i16::try_from(arguments.len()).unwrap_or(0);
        let slots = (*call).args.as_mut_ptr();
        for (at, &(value, isnull)) in arguments.iter().enumerate() {
            *slots.add(at) = pg_sys::NullableDatum { value, isnull };
        }
        let Some(body) = (*function).fn_addr else {
            return NULL;
        };
        let value = pg_sys::ffi::pg_guard_ffi_boundary(|| body(call));
        (value, (*call).isnull)
    }
}
