//! A call that is made for many rows.

use std::ffi::{CStr, CString};
use std::mem::{offset_of, size_of};
use std::ptr;

use pgrx::{pg_sys, prelude::*};

use super::calls::ArrayForm;
use super::pace;
use super::rewriting::arguments;
use crate::config;

/// Bytes of the documents of one call, about.
const BYTES_MAX: usize = 16 << 20;

/// A value, and whether it is NULL.
pub type Value = (pg_sys::Datum, bool);
const NULL: Value = (pg_sys::Datum::null(), true);

/// A call as the executor makes it.
pub struct Call {
    name: CString,
    form: ArrayForm,
    /// Its arguments, of which one is the document.
    arguments: Vec<*mut pg_sys::ExprState>,
    collation: pg_sys::Oid,
    /// The form for many documents; None where the caller may not call that.
    function: Option<*mut pg_sys::FmgrInfo>,
    /// The call as it is written.
    alone: *mut pg_sys::ExprState,
    element: Element,
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
            let Some(form) = ArrayForm::of((*call).funcid) else {
                error!("a function has no form for many documents any more");
            };
            let mut element = Element {
                oid: (*call).funcresulttype,
                ..Element::default()
            };
            pg_sys::get_typlenbyvalalign(
                element.oid,
                &mut element.length,
                &mut element.is_by_value,
                &mut element.alignment,
            );
            let arguments = arguments(call);
            Self {
                name: CStr::from_ptr(pg_sys::get_func_name((*call).funcid)).into(),
                arguments: arguments
                    .into_iter()
                    .map(|argument| pg_sys::ExecInitExpr(argument.cast(), parent))
                    .collect(),
                collation: (*call).inputcollid,
                function: function(form.oid, (*(*parent).state).es_query_cxt),
                alone,
                form,
                element,
            }
        }
    }

    pub fn name(&self) -> &CString {
        &self.name
    }

    /// The row and the expression that are evaluated after so many: the arguments that are the same for all rows, then
    /// the document of each. A row that is not there ends it.
    pub fn expression(&self, done: usize) -> (usize, *mut pg_sys::ExprState) {
        if self.function.is_none() {
            return (done, self.alone);
        }
        let places = (0..self.arguments.len()).filter(|&at| at != self.form.documents);
        let others: Vec<usize> = places.collect();
        match others.get(done) {
            Some(&at) => (0, self.arguments[at]),
            None => (done - others.len(), self.arguments[self.form.documents]),
        }
    }

    /// A value for each row, of what its expressions gave. They live in the current memory.
    ///
    /// # Safety
    /// The values are those of the expressions.
    pub unsafe fn values(&self, given: &[Value], rows: usize) -> Vec<Value> {
        let Some(function) = self.function else {
            return given.to_vec();
        };
        let (others, documents) = given.split_at(given.len() - rows);
        let mut values = vec![NULL; rows];
        let mut asked = Documents::default();
        // SAFETY: by the caller.
        unsafe {
            for (row, &document) in documents.iter().enumerate() {
                if document.1 && self.form.is_strict {
                    continue;
                }
                asked.push(row, document);
                if asked.bytes >= BYTES_MAX {
                    self.call(function, others, std::mem::take(&mut asked), &mut values);
                }
            }
            self.call(function, others, asked, &mut values);
        }
        values
    }

    /// Calls the function about some documents, and puts what it says into their rows.
    unsafe fn call(
        &self,
        function: *mut pg_sys::FmgrInfo,
        others: &[Value],
        mut documents: Documents,
        values: &mut [Value],
    ) {
        let count = documents.rows.len();
        let has_null = others.iter().any(|&(_, is_null)| is_null);
        if count == 0 || (self.form.is_strict && has_null) {
            return;
        }
        // SAFETY: by the caller.
        unsafe {
            let mut given = others.to_vec();
            given.insert(self.form.documents, (documents.array(), false));
            if let Some(at) = self.form.timeout {
                given[at] = (timeout(given[at], count), false);
            }
            if self.form.has_error_ratio {
                // As with single rows, each error is of its document.
                given.push((1.0_f64.into_datum().unwrap_or(NULL.0), false));
            }
            let said = self.elements(invoked(function, self.collation, &given));
            if said.len() != count {
                let name = self.name.to_string_lossy();
                error!("{name} has {} results for {count} documents", said.len());
            }
            for (row, value) in documents.rows.into_iter().zip(said) {
                values[row] = value;
            }
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

/// Documents of one call.
#[derive(Default)]
struct Documents {
    rows: Vec<usize>,
    texts: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    bytes: usize,
}

#[allow(unsafe_code)]
impl Documents {
    unsafe fn push(&mut self, row: usize, (text, is_null): Value) {
        self.rows.push(row);
        self.texts.push(text);
        self.nulls.push(is_null);
        if !is_null {
            // SAFETY: by the caller, a text.
            self.bytes += unsafe { pg_sys::toast_raw_datum_size(text) };
        }
    }

    /// All of them, as `text[]`.
    unsafe fn array(&mut self) -> pg_sys::Datum {
        let mut count = i32::try_from(self.texts.len()).unwrap_or(i32::MAX);
        let mut lower_bound = 1;
        // SAFETY: texts, as many as flags.
        unsafe {
            pg_sys::construct_md_array(
                self.texts.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
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
}

/// The time limit of a call about so many rows.
fn timeout((given, is_null): Value, rows: usize) -> pg_sys::Datum {
    let one = match is_null {
        true => i32::try_from(config::timeout().as_millis()).unwrap_or(i32::MAX),
        false => given.value() as i32,
    };
    let calls = i32::try_from(pace::calls_in_time(rows)).unwrap_or(1);
    one.saturating_mul(calls).into_datum().unwrap_or(given)
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
