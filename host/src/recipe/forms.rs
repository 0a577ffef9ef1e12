//! Explains a value that has none of the forms its schema allows (`anyOf`, `oneOf`): enums, tagged tables, optional
//! values, one-or-many.
//!
//! The rule: find the one form that was meant and explain only that; the others are noise.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::document::child;
use super::explain::{Explain, name};
use super::problem::Problem;
use super::schema::{choices, description, resolve, tag, types};
use super::words::choose;

type Errors = Vec<ValidationError<'static>>;

/// One form, and what keeps the value from having it.
type Form<'a> = (&'a Value, &'a Errors);

impl Explain<'_> {
    /// Explains an `anyOf` or `oneOf` that failed; `context` has the errors of each form.
    pub(super) fn forms(&self, error: &ValidationError<'_>, context: &[Errors]) -> Vec<Problem> {
        let forms = self.schema.pointer(error.schema_path().as_str());
        let forms = forms.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let forms: Vec<Form<'_>> = forms
            .iter()
            .map(|form| resolve(self.schema, form))
            .zip(context)
            .filter(|(form, _)| form["type"] != "null")
            .collect();
        if let [(_, errors)] = forms.as_slice() {
            return self.all(errors);
        }
        let (pointer, value) = (self.pointer(error), error.instance().as_ref());
        let listed = forms.iter().map(|(form, _)| choices(self.schema, form));
        if let Some(listed) = listed.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty()) {
            return vec![self.unknown_value(&pointer, value, &listed.concat())];
        }
        if let Some(problems) = self.tagged(error, &forms) {
            return problems;
        }

        let path = error.instance_path().as_str();
        let of_this_type = |form: &&Form<'_>| type_fits(form.1, path);
        let meant: Vec<&Form<'_>> = forms.iter().filter(of_this_type).collect();
        match (meant.as_slice(), description(self.owner(error))) {
            ([], _) => {
                let expected = forms.iter().flat_map(|(form, _)| types(self.schema, form));
                vec![self.wrong_type(&pointer, value, &expected.collect::<Vec<_>>())]
            }
            ([(_, errors)], _) => self.all(errors),
            (_, Some(help)) => {
                let message = format!("{} has none of the forms that it can have", name(&pointer));
                vec![self.at_value(&pointer, message).help(help)]
            }
            (meant, None) => {
                let nearest = meant.iter().min_by_key(|(_, errors)| errors.len());
                nearest.map_or_else(Vec::new, |(_, errors)| self.all(errors))
            }
        }
    }

    /// Explains the form that the tag names, where a tag tells the forms apart.
    fn tagged(&self, error: &ValidationError<'_>, forms: &[Form<'_>]) -> Option<Vec<Problem>> {
        let schemas: Vec<&Value> = forms.iter().map(|(form, _)| *form).collect();
        let tag = tag(self.schema, &schemas)?;
        let (pointer, value) = (self.pointer(error), error.instance().as_ref());
        if !value.is_object() {
            let problem = self.wrong_type(&pointer, value, &["object".to_owned()]);
            let known = tag.values.iter().any(|values| values.contains(value));
            return Some(vec![match known {
                true => problem.help(format!("write `{{ {} = {value} }}`", tag.key)),
                false => problem,
            }]);
        }
        let Some(chosen) = value.get(tag.key) else {
            let all: Vec<Value> = tag.values.concat();
            let names: Vec<String> = all.iter().filter_map(Value::as_str).map(Into::into).collect();
            let problem = self.missing_key(error, tag.key);
            return Some(vec![match choose("", &names) {
                Some(help) => problem.help(help),
                None => problem,
            }]);
        };
        match tag.values.iter().position(|values| values.contains(chosen)) {
            Some(index) => Some(self.all(forms[index].1)),
            None if chosen.is_null() => Some(Vec::new()),
            None => {
                let (at, all) = (child(&pointer, tag.key), tag.values.concat());
                Some(vec![self.unknown_value(&at, chosen, &all)])
            }
        }
    }

    fn all(&self, errors: &Errors) -> Vec<Problem> {
        errors.iter().flat_map(|error| self.error(error)).collect()
    }
}

/// Whether the value at `path` is at least of a type that the form allows.
fn type_fits(errors: &Errors, path: &str) -> bool {
    errors.iter().all(|error| {
        if error.instance_path().as_str() != path {
            return true;
        }
        match error.kind() {
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                context.iter().any(|form| type_fits(form, path))
            }
            kind => kind.keyword() != "type",
        }
    })
}
