//! From what people write to what is read: tables that are not enabled go, recipes are put into their builders, a matrix becomes
//! its builders.

use std::collections::{BTreeMap, BTreeSet};

use figment::value::{Dict, Tag, Value};

use crate::expr::{Constants, with_constants};
use crate::extract::{KEYED, Report};
use crate::fault::{Fault, suggest};
use crate::fold::fold_table;
use crate::matrix::{Combination, combinations};
use crate::places::Written;
use crate::recipes::{self, Recipe};

/// What the reading of the expanded tables has to know.
#[derive(Default)]
pub(crate) struct Expanded {
    /// Names in keyed tables that are there, but not in use: lists may name them.
    pub absent: BTreeMap<&'static str, BTreeSet<String>>,
    /// The values of `param` and `matrix`, by builder.
    pub constants: BTreeMap<String, Constants>,
    /// Builders of which nothing could be made.
    pub broken: BTreeSet<String>,
}

/// Expands a merged configuration.
pub(crate) fn expand(merged: &mut Value, report: &mut Report<'_>) -> Expanded {
    let mut expanded = Expanded::default();
    let Value::Dict(_, root) = merged else { return expanded };
    for section in KEYED {
        drop_disabled(root, section, &mut expanded, report);
    }
    let recipes = match root.remove("recipes") {
        Some(Value::Dict(_, tables)) => recipes::read(&tables, report),
        Some(_) => {
            let fault = Fault::error("wrong-type", "expected a table, `[recipes.NAME]`");
            report.push(&path(&["recipes"]), false, fault);
            BTreeMap::new()
        }
        None => BTreeMap::new(),
    };
    let Some(Value::Dict(_, builders)) = root.get_mut("builders") else { return expanded };
    let mut all = Builders { made: Dict::new(), became: BTreeMap::new(), expanded: &mut expanded };
    let mut used = BTreeSet::new();
    let tables = std::mem::take(builders);
    for (name, value) in &tables {
        let Value::Dict(_, table) = value else {
            all.made.insert(name.clone(), value.clone());
            continue;
        };
        if let Some(Value::String(_, recipe)) = table.get("recipe") {
            used.insert(recipe.clone());
        }
        if all.builder(name, table, (&tables, &recipes), report).is_none() {
            all.expanded.broken.insert(name.clone());
        }
    }
    let became = std::mem::take(&mut all.became);
    *builders = all.made;
    name_all(root, &became);
    for name in recipes.keys().filter(|it| !used.contains(*it)) {
        let fault = Fault::warning("unused", format!("no builder uses the recipe `{name}`"));
        report.push(
            &path(&["recipes", name]),
            true,
            fault.help(format!("write recipe = \"{name}\" in a builder")),
        );
    }
    expanded
}

/// Takes `enabled` out of every table of a section, and those that say false.
fn drop_disabled(root: &mut Dict, section: &'static str, expanded: &mut Expanded, report: &mut Report<'_>) {
    let Some(Value::Dict(_, tables)) = root.get_mut(section) else { return };
    tables.retain(|name, table| {
        let Value::Dict(_, table) = table else { return true };
        match table.remove("enabled") {
            None | Some(Value::Bool(_, true)) => true,
            Some(Value::Bool(_, false)) => {
                expanded.absent.entry(section).or_default().insert(name.clone());
                false
            }
            Some(_) => {
                let fault = Fault::error("wrong-type", "expected true or false");
                report.push(&path(&[section, name, "enabled"]), false, fault);
                true
            }
        }
    });
}

struct Builders<'a> {
    made: Dict,
    /// The builders that a matrix became.
    became: BTreeMap<String, Vec<String>>,
    expanded: &'a mut Expanded,
}

impl Builders<'_> {
    /// None, with faults, if nothing can be made of a builder.
    fn builder(
        &mut self,
        name: &str,
        table: &Dict,
        (tables, recipes): (&Dict, &BTreeMap<String, Recipe>),
        report: &mut Report<'_>,
    ) -> Option<()> {
        let at = path(&["builders", name]);
        let mut table = table.clone();
        let (recipe, with, matrix) = (table.remove("recipe"), table.remove("with"), table.remove("matrix"));
        let recipe = match &recipe {
            None => None,
            Some(value) => Some(find(value, recipes, &table, &at, report)?),
        };
        let with = match with {
            None => Dict::new(),
            Some(Value::Dict(_, with)) if recipe.is_some() => with,
            Some(value) => {
                let (code, message) = match value.as_dict() {
                    Some(_) => ("no-effect", "`with` gives values to a recipe, and there is no `recipe`"),
                    None => ("wrong-type", "expected a table, with = { PARAMETER = VALUE }"),
                };
                report.push(&below(&at, "with"), true, Fault::error(code, message));
                return None;
            }
        };
        let Some(matrix) = matrix else {
            let made = self.make(name, (name, Constants::default()), (&table, &with), recipe, report)?;
            self.made.insert(name.to_owned(), made);
            return Some(());
        };
        let combinations = combinations(name, &matrix, &at, report)?;
        let mut names = Vec::with_capacity(combinations.len());
        for Combination { name: derived, constants } in combinations {
            if tables.contains_key(&derived) && derived != name || self.made.contains_key(&derived) {
                let message = format!("the matrix makes a builder `{derived}`, and there is another one");
                report.push(&below(&at, "matrix"), true, Fault::error("duplicate-name", message));
                return None;
            }
            let made = self.make(name, (&derived, constants), (&table, &with), recipe, report)?;
            self.made.insert(derived.clone(), made);
            names.push(derived);
        }
        self.became.insert(name.to_owned(), names);
        Some(())
    }

    /// One builder's table, with its recipe and what is known of its values.
    fn make(
        &mut self,
        written: &str,
        (name, mut constants): (&str, Constants),
        (table, with): (&Dict, &Dict),
        recipe: Option<(&str, &Recipe)>,
        report: &mut Report<'_>,
    ) -> Option<Value> {
        let (at, from) = (path(&["builders", name]), path(&["builders", written]));
        if at != from {
            let used = (format!("in the builder `{name}` of this matrix"), below(&from, "matrix"));
            report.places.add(at.clone(), Written { at: from.clone(), used: Some(used) });
        }
        let mut table = table.clone();
        if let Some((recipe_name, recipe)) = recipe {
            let mut misfits = Vec::new();
            let with = with_constants(constants.clone(), || {
                fold_table(with.clone(), &mut below(&at, "with"), &mut misfits)
            });
            let param = recipe.values(recipe_name, &with, &at, report);
            report.misfits(misfits);
            constants.param = Some(param?);
            recipe.apply(&mut table, |key| {
                let used = (format!("the builder `{name}` uses the recipe"), below(&from, "recipe"));
                let written =
                    Written { at: [path(&["recipes", recipe_name]), key.clone()].concat(), used: Some(used) };
                report.places.add([at.clone(), key].concat(), written);
            });
        }
        if !constants.is_empty() {
            let mut misfits = Vec::new();
            table = with_constants(constants.clone(), || fold_table(table, &mut at.clone(), &mut misfits));
            self.expanded.constants.insert(name.to_owned(), constants);
            if !misfits.is_empty() {
                report.misfits(misfits);
                return None;
            }
        }
        Some(Value::Dict(Tag::Default, table))
    }
}

/// The recipe that a builder names.
fn find<'r>(
    value: &Value,
    recipes: &'r BTreeMap<String, Recipe>,
    table: &Dict,
    at: &[String],
    report: &mut Report<'_>,
) -> Option<(&'r str, &'r Recipe)> {
    let at_recipe = below(at, "recipe");
    let Some(name) = value.as_str() else {
        report.push(&at_recipe, false, Fault::error("wrong-type", "expected the name of a recipe"));
        return None;
    };
    let Some((name, recipe)) = recipes.get_key_value(name) else {
        // One with faults of its own is not asked for again.
        if !report
            .faults
            .iter()
            .any(|it| it.key.starts_with(&crate::extract::dotted(&path(&["recipes", name]))))
        {
            let fault = Fault::error("unknown-name", format!("there is no recipe `{name}`"));
            report.push(&at_recipe, false, fault.help(suggest(name, recipes.keys().map(String::as_str))));
        }
        return None;
    };
    if table.contains_key("steps") && recipe.has("steps") {
        let fault = Fault::error("bad-value", "the recipe has the steps of this builder");
        let note = report.place(&path(&["recipes", name, "steps"]), true);
        report.push(
            &below(at, "steps"),
            true,
            fault.note("the steps of the recipe", note).help("leave one of them out"),
        );
        return None;
    }
    Some((name, recipe))
}

/// Schedulers and notifiers that name a matrix mean all its builders.
fn name_all(root: &mut Dict, became: &BTreeMap<String, Vec<String>>) {
    if became.is_empty() {
        return;
    }
    name_all_in(root, "schedulers", became);
    // Notifiers have globs in their lists: a name among them has to stay that name.
    let became = became.iter();
    let literal = became.map(|(name, made)| (name.clone(), made.iter().map(|it| literal(it)).collect()));
    name_all_in(root, "notifiers", &literal.collect());
}

/// Puts the builders that a matrix became into the lists `builders` of a section's tables.
fn name_all_in(root: &mut Dict, section: &str, became: &BTreeMap<String, Vec<String>>) {
    let Some(Value::Dict(_, owners)) = root.get_mut(section) else { return };
    for owner in owners.values_mut() {
        let Value::Dict(_, table) = owner else { continue };
        let Some(builders) = table.get_mut("builders") else { continue };
        if let Value::String(tag, name) = builders
            && became.contains_key(name)
        {
            *builders = Value::Array(*tag, vec![builders.clone()]);
        }
        let Value::Array(_, names) = builders else { continue };
        // The first takes the place, so that the others keep theirs.
        let mut more = Vec::new();
        for name in names.iter_mut() {
            if let Some([first, rest @ ..]) = name.as_str().and_then(|it| became.get(it)).map(Vec::as_slice) {
                *name = Value::from(first.as_str());
                more.extend(rest.iter().map(|it| Value::from(it.as_str())));
            }
        }
        names.extend(more);
    }
}

/// A glob that matches this name alone.
fn literal(name: &str) -> String {
    let mut glob = String::with_capacity(name.len());
    for it in name.chars() {
        if matches!(it, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            glob.push('\\');
        }
        glob.push(it);
    }
    glob
}

fn path(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|it| (*it).to_owned()).collect()
}

fn below(at: &[String], key: &str) -> Vec<String> {
    [at, &[key.to_owned()]].concat()
}
