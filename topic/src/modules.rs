//! SmartModules: naming one in a reading, and registering ours on a cluster that others use too.
//!
//! Each of ours is registered as the package that its `SmartModule.toml` describes, `millrace/<name>@<version>`, and
//! services ask for it by that name. What somebody else registered is never replaced.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use fluvio::metadata::smartmodule::{SmartModuleMetadata, SmartModuleSpec, SmartModuleWasm};
use fluvio::{
    SmartModuleContextData, SmartModuleExtraParams, SmartModuleInvocation,
    SmartModuleInvocationWasm, SmartModuleKind,
};
use fluvio_controlplane_metadata::smartmodule::SmartModulePackageKey;

use crate::cluster::Connection;
use crate::{Cluster, TopicError};

/// A SmartModule that the broker applies before the records leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmartModule {
    /// Name under which the broker knows it.
    pub name: String,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
}

impl SmartModule {
    /// `rows` of `millrace/rows@0.1.0`.
    #[must_use]
    pub fn bare_name(&self) -> &str {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        name.split('@').next().unwrap_or_default()
    }

    pub(crate) fn invocation(&self) -> SmartModuleInvocation {
        SmartModuleInvocation {
            wasm: SmartModuleInvocationWasm::Predefined(self.name.clone()),
            kind: SmartModuleKind::Generic(SmartModuleContextData::None),
            params: SmartModuleExtraParams::from(self.params.clone()),
            name: Some(self.name.clone()),
        }
    }
}

/// Bare name and parameters: a version leaves out what another does.
impl fmt::Display for SmartModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.bare_name())?;
        for (name, value) in &self.params {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// A SmartModule of ours.
#[derive(Debug)]
pub struct Package {
    /// Its bare name.
    pub name: &'static str,
    /// Its code.
    pub wasm: &'static [u8],
    /// Its `SmartModule.toml`.
    pub manifest: &'static str,
}

/// How a cluster finds the module that a service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The embedded broker: a package only by its own name.
    Exact,
    /// A real cluster: also a module without a package that has the same bare name.
    Loose,
}

/// A module as a cluster keeps it. Where a broker is asked without a client, it is made of, and into, what that keeps: the
/// name that it is stored under, and Fluvio's description.
#[derive(Clone, Debug)]
pub struct StoredModule {
    name: String,
    spec: SmartModuleSpec,
}

impl From<(String, SmartModuleSpec)> for StoredModule {
    fn from((name, spec): (String, SmartModuleSpec)) -> Self {
        StoredModule { name, spec }
    }
}

impl From<StoredModule> for (String, SmartModuleSpec) {
    fn from(stored: StoredModule) -> Self {
        (stored.name, stored.spec)
    }
}

/// Why a SmartModule is not registered.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The manifest cannot be read.
    #[error("SmartModule.toml of {name}")]
    Manifest {
        /// The module.
        name: &'static str,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The code cannot be packed.
    #[error("the code of SmartModule {name}")]
    Code {
        /// The module.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Fluvio may run somebody else's module in place of ours.
    #[error(
        "the cluster has a SmartModule {name} without a package, which Fluvio may run in place of \
         {full_name}. If an older millrace registered it, `fluvio smartmodule delete {name}`; if \
         it is somebody else's, it needs another name or a package of its own"
    )]
    Bare {
        /// What it is called.
        name: String,
        /// What ours is called.
        full_name: String,
    },
    /// Our name is taken.
    #[error(
        "the cluster has another SmartModule of the name {full_name}, which millrace did not register. \
         Find out whose it is; `fluvio smartmodule delete {full_name}` lets millrace register its own"
    )]
    Foreign {
        /// What it is called.
        full_name: String,
    },
    /// The cluster cannot be asked, or refused one.
    #[error(transparent)]
    Topic(#[from] TopicError),
}

impl Package {
    /// `millrace/<name>@<version>`, as the manifest says.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub fn full_name(&self) -> Result<String, ModuleError> {
        Ok(self.metadata()?.package.fqdn())
    }

    fn metadata(&self) -> Result<SmartModuleMetadata, ModuleError> {
        let name = self.name;
        SmartModuleMetadata::from_bytes(self.manifest.as_bytes())
            .map_err(|source| ModuleError::Manifest { name, source })
    }

    fn spec(&self) -> Result<SmartModuleSpec, ModuleError> {
        let name = self.name;
        let wasm = SmartModuleWasm::from_raw_wasm_bytes(self.wasm)
            .map_err(|source| ModuleError::Code { name, source })?;
        Ok(SmartModuleSpec {
            meta: Some(self.metadata()?),
            wasm,
            ..SmartModuleSpec::default()
        })
    }
}

impl Cluster {
    /// The full names of the modules that are registered, sorted.
    ///
    /// # Errors
    /// If the controller does not answer as it should.
    pub async fn smart_modules(&self) -> Result<Vec<String>, TopicError> {
        // A summary: the modules' code stays where it is.
        let list = |connection: Connection| async move {
            let none: Vec<String> = Vec::new();
            let admin = &connection.admin;
            admin
                .list_with_params::<SmartModuleSpec, String>(none, true)
                .await
        };
        let modules = self.ask("listing SmartModules", list).await?;
        let mut names: Vec<String> = modules
            .iter()
            .map(|module| module.spec.fqdn(&module.name).into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Registers every package that the cluster does not have yet.
    ///
    /// # Errors
    /// If the cluster refuses one, or has a module of somebody else in its place.
    pub async fn register(&self, packages: &[Package], lookup: Lookup) -> Result<(), ModuleError> {
        let names: Vec<String> = packages
            .iter()
            .map(|package| package.name.to_owned())
            .collect();
        let list = |connection: Connection| async move {
            connection.admin.list::<SmartModuleSpec, _>(names).await
        };
        let known = self.ask("listing SmartModules", list).await?;
        let known = known.into_iter().map(|known| StoredModule {
            name: known.name,
            spec: known.spec,
        });
        for StoredModule { name, spec } in StoredModule::missing(packages, known, lookup)? {
            let doing = format!("registering SmartModule {name}");
            let create = |connection: Connection| async move {
                connection.admin.create(name, false, spec).await
            };
            self.ask(&doing, create).await?;
        }
        Ok(())
    }
}

impl StoredModule {
    /// The packages to be registered, under their full names, given what a cluster has.
    ///
    /// # Errors
    /// If the cluster has a module of somebody else in the place of one.
    pub fn missing(
        packages: &[Package],
        known: impl IntoIterator<Item = StoredModule>,
        lookup: Lookup,
    ) -> Result<Vec<StoredModule>, ModuleError> {
        let known: Vec<StoredModule> = known.into_iter().collect();
        let mut missing = Vec::new();
        for package in packages {
            if let Some(spec) = wanted(package, &known, lookup)? {
                let name = package.full_name()?;
                missing.push(StoredModule { name, spec });
            }
        }
        Ok(missing)
    }
}

/// What is to be registered of a package, given the modules that the cluster has:
/// 1. A module without a package that has its name and other content: a real cluster may run that one. Refused.
/// 2. The same package with the same content: nothing.
/// 3. The same package, described as ours is, with other content: another build of it. Replaced.
/// 4. The same package, described otherwise: somebody else's. Refused.
fn wanted(
    package: &Package,
    known: &[StoredModule],
    lookup: Lookup,
) -> Result<Option<SmartModuleSpec>, ModuleError> {
    let ours = package.spec()?;
    let full_name = package.full_name()?;
    let same_content = |spec: &SmartModuleSpec| {
        let wasm = spec.wasm.as_raw_wasm();
        wasm.is_ok_and(|wasm| wasm == package.wasm)
    };
    for StoredModule { name, spec: other } in known {
        if other.meta.is_none() && name == package.name && !same_content(other) {
            let name = name.clone();
            match lookup {
                Lookup::Exact => {
                    tracing::info!(name, "left alone: a SmartModule without a package")
                }
                Lookup::Loose => return Err(ModuleError::Bare { name, full_name }),
            }
        }
        if !is_package(other, &full_name) {
            continue;
        }
        return match (same_content(other), other.meta == ours.meta) {
            (true, true) => Ok(None),
            (false, true) => {
                tracing::warn!(%full_name, "replaces another build of this SmartModule");
                Ok(Some(ours))
            }
            (_, false) => Err(ModuleError::Foreign { full_name }),
        };
    }
    Ok(Some(ours))
}

fn is_package(spec: &SmartModuleSpec, full_name: &str) -> bool {
    let key = SmartModulePackageKey::from_qualified_name(full_name);
    let package = spec.meta.as_ref().map(|meta| &meta.package);
    key.is_ok_and(|key| package.is_some() && key.is_match("", package))
}

#[cfg(test)]
mod tests {
    use fluvio_controlplane_metadata::smartmodule::FluvioSemVersion;

    use super::*;

    static PACKAGES: &[Package] = &[
        Package {
            name: "rows",
            wasm: b"(module (memory 1))",
            manifest: "params = []\n[package]\nname = \"rows\"\ngroup = \"millrace\"\nversion = \"0.1.0\"\napiVersion = \"0.1.0\"\n",
        },
        Package {
            name: "redact",
            wasm: b"(module (memory 2))",
            manifest: "[package]\nname = \"redact\"\ngroup = \"millrace\"\nversion = \"0.1.0\"\napiVersion = \"0.1.0\"\n\
                       [[params]]\nname = \"policy\"\n[[params]]\nname = \"salt\"\noptional = true\n",
        },
    ];

    fn missing(known: &[StoredModule], lookup: Lookup) -> Result<Vec<StoredModule>, ModuleError> {
        StoredModule::missing(PACKAGES, known.to_vec(), lookup)
    }

    fn refused(known: StoredModule, lookup: Lookup) -> String {
        let refusal = missing(&[known], lookup).expect_err("it is somebody else's");
        refusal.to_string()
    }

    fn stored(spec: SmartModuleSpec, name: &str) -> StoredModule {
        let stored = spec.meta.as_ref().map(SmartModuleMetadata::store_id);
        StoredModule {
            name: stored.unwrap_or_else(|| name.to_owned()),
            spec,
        }
    }

    fn other_build_of_rows() -> SmartModuleSpec {
        let mut spec = PACKAGES[0].spec().expect("ours");
        spec.wasm = SmartModuleWasm::from_raw_wasm_bytes(b"(module)").expect("code");
        spec
    }

    #[test]
    fn ours_are_registered_as_packages_with_their_parameters() {
        let registered = missing(&[], Lookup::Loose).expect("nothing is there");
        let names: Vec<&str> = registered.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["millrace/rows@0.1.0", "millrace/redact@0.1.0"]);
        let redact = registered[1].spec.meta.as_ref().expect("a package");
        let optional = |name| redact.params.get_param(name).expect("a parameter").optional;
        assert!(!optional("policy"));
        assert!(optional("salt"));
    }

    #[test]
    fn what_is_registered_already_is_left_alone() {
        let registered = missing(&[], Lookup::Loose).expect("nothing is there");
        let known: Vec<StoredModule> = registered
            .into_iter()
            .map(|one| stored(one.spec, &one.name))
            .collect();
        let missing = missing(&known, Lookup::Loose).expect("they are ours");
        assert!(missing.is_empty());
    }

    #[test]
    fn another_build_of_ours_is_replaced() {
        let known = [stored(other_build_of_rows(), "rows")];
        let missing = missing(&known, Lookup::Loose).expect("it is ours");
        assert_eq!(missing.len(), PACKAGES.len());
    }

    #[test]
    fn a_package_of_our_name_that_is_described_otherwise_is_somebody_elses() {
        for (lookup, wasm) in [
            (Lookup::Exact, PACKAGES[0].wasm),
            (Lookup::Loose, b"(module)"),
        ] {
            let mut spec = other_build_of_rows();
            spec.wasm = SmartModuleWasm::from_raw_wasm_bytes(wasm).expect("code");
            spec.meta.as_mut().expect("a package").package.description = Some("theirs".to_owned());
            let refusal = refused(stored(spec, "rows"), lookup);
            let command = "fluvio smartmodule delete millrace/rows@0.1.0";
            assert!(refusal.contains(command), "{refusal}");
        }
    }

    #[test]
    fn packages_of_other_groups_and_versions_do_not_matter() {
        let mut group = other_build_of_rows();
        group.meta.as_mut().expect("a package").package.group = "acme".to_owned();
        let mut version = other_build_of_rows();
        let package = &mut version.meta.as_mut().expect("a package").package;
        package.version = FluvioSemVersion::parse("9.0.0").expect("a version");
        let known = [stored(group, "rows"), stored(version, "rows")];
        let missing = missing(&known, Lookup::Loose).expect("they are not in the way");
        assert_eq!(missing.len(), PACKAGES.len());
    }

    #[test]
    fn a_bare_module_matters_only_where_it_could_run_instead() {
        let mut bare = other_build_of_rows();
        bare.meta = None;
        let known = stored(bare, "rows");
        let missing = missing(std::slice::from_ref(&known), Lookup::Exact).expect("not in the way");
        assert_eq!(missing.len(), PACKAGES.len());
        let refusal = refused(known, Lookup::Loose);
        assert!(
            refusal.contains("fluvio smartmodule delete rows"),
            "{refusal}"
        );
    }
}
