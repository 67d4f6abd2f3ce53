//! SmartModules and the names they go by.
//!
//! As on a real controller, a package (`group/name@version`, from its `SmartModule.toml`) is stored as
//! `name-group-version` whatever its creator calls it, and a module without a package by its bare name. So
//! packages of one name stand beside each other.

use std::cmp::Reverse;

use fluvio_sc_schema::errors::ErrorCode;
use fluvio_sc_schema::smartmodule::{SmartModulePackage, SmartModulePackageKey, SmartModuleSpec};

use super::{check_name, Catalog, Entry, Refusal};

impl Catalog {
    /// Finds a SmartModule by `group/name@version`, of which group and version may be left out. A module
    /// that is called exactly so comes first, then the newest version of the package that matches.
    pub(crate) fn smart_module(&self, name: &str) -> Option<SmartModuleSpec> {
        let state = self.read();
        let modules = &state.smart_modules;
        let key = SmartModulePackageKey::from_qualified_name(name).ok()?;
        let exact = modules.get(name).or_else(|| modules.get(&key.store_id()));
        let packages = || {
            let matching = modules.iter().filter_map(|(name, entry)| {
                let package = package(&entry.value)?;
                key.is_match(name, Some(package))
                    .then_some((package, entry))
            });
            let best =
                matching.max_by_key(|(package, _)| (Reverse(&package.group), version(package)));
            best.map(|(_, entry)| entry)
        };
        exact.or_else(packages).map(|entry| entry.value.clone())
    }

    /// Stores a SmartModule, replacing the one of the same name, or of the same package. Returns the name
    /// that it is stored under.
    pub(crate) fn put_smart_module(
        &self,
        name: &str,
        spec: SmartModuleSpec,
    ) -> Result<(String, i64), Refusal> {
        let stored = stored_name(name, &spec)?;
        check_name(&stored, ErrorCode::InvalidCreateRequest)?;
        let _changing = self.changing();
        if let Some(other) = self.read().smart_modules.get(&stored) {
            refuse_another(&stored, &other.value, &spec)?;
        }
        self.store.put("smartmodules", &stored, &spec)?;
        let name = stored.clone();
        let epoch = self.apply(|state, epoch| {
            let entry = Entry { epoch, value: spec };
            state.smart_modules.insert(name, entry);
        });
        Ok((stored, epoch))
    }

    /// Removes a SmartModule, called by its own name or `group/name@version`. Streams that use it go on with
    /// what they have loaded.
    pub(crate) fn delete_smart_module(&self, name: &str) -> Result<i64, Refusal> {
        let _changing = self.changing();
        let known = |name: &String| self.read().smart_modules.contains_key(name);
        let key = SmartModulePackageKey::from_qualified_name(name).ok();
        let names = [Some(name.to_owned()), key.map(|key| key.store_id())];
        let Some(stored) = names.into_iter().flatten().find(known) else {
            return Err(Refusal::code(ErrorCode::SmartModuleNotFound {
                name: name.to_owned(),
            }));
        };
        self.store.remove("smartmodules", &stored)?;
        Ok(self.apply(|state, _| {
            state.smart_modules.remove(&stored);
        }))
    }
}

fn package(spec: &SmartModuleSpec) -> Option<&SmartModulePackage> {
    spec.meta.as_ref().map(|meta| &meta.package)
}

fn stored_name(name: &str, spec: &SmartModuleSpec) -> Result<String, Refusal> {
    match package(spec) {
        None => Ok(name.to_owned()),
        Some(package) if package.is_valid() => Ok(package.store_id()),
        Some(_) => Err(Refusal::new(
            ErrorCode::SmartModuleError,
            "invalid SmartModule package: it needs a name and a group",
        )),
    }
}

/// Names of different packages may be stored alike (`a-b` of group `c`, and `a` of group `b-c`).
fn refuse_another(
    stored: &str,
    other: &SmartModuleSpec,
    spec: &SmartModuleSpec,
) -> Result<(), Refusal> {
    let identity = |spec| package(spec).map(SmartModulePackage::fqdn);
    if identity(other) == identity(spec) {
        return Ok(());
    }
    let message = format!(
        "{} is stored as {stored} already; delete it first, or choose another name",
        other.fqdn(stored)
    );
    Err(Refusal::new(ErrorCode::SmartModuleError, message))
}

/// Orders versions by their numbers.
fn version(package: &SmartModulePackage) -> Vec<u64> {
    let version = package.version.to_string();
    let release = version.split(['-', '+']).next().unwrap_or_default();
    let numbers = release.split('.');
    numbers.map(|number| number.parse().unwrap_or(0)).collect()
}
