//! The SmartModules compiled into this binary, and how they get onto a cluster that others use too.
//!
//! Each is registered as the package that its `SmartModule.toml` describes, `millrace/<name>@<version>`, and
//! services ask for it by that name. What somebody else registered is never replaced.

use anyhow::{bail, Context};
use fluvio::metadata::smartmodule::{SmartModuleMetadata, SmartModuleSpec, SmartModuleWasm};
use fluvio::FluvioAdmin;
use fluvio_controlplane_metadata::smartmodule::SmartModulePackageKey;

/// A SmartModule of `smartmodules/`.
#[derive(Debug)]
pub struct Module {
    /// Its bare name.
    pub name: &'static str,
    wasm: &'static [u8],
    manifest: &'static str,
}

/// All of them.
pub static MODULES: &[Module] = include!(concat!(env!("OUT_DIR"), "/smartmodules.rs"));

/// How a cluster finds the module that a service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The embedded broker: a package only by its own name.
    Exact,
    /// A real cluster: also a module without a package that has the same bare name.
    Loose,
}

/// `millrace/<name>@<version>` of the SmartModule `name`.
///
/// # Errors
/// If this binary holds no such module.
pub fn full_name(name: &str) -> anyhow::Result<String> {
    let module = MODULES.iter().find(|module| module.name == name);
    let module = module.with_context(|| format!("there is no SmartModule {name}"))?;
    Ok(module.metadata()?.package.fqdn())
}

/// Registers every SmartModule that the cluster does not have yet.
///
/// # Errors
/// If the cluster refuses one, or has a module of somebody else in its place.
pub async fn register(admin: &FluvioAdmin, lookup: Lookup) -> anyhow::Result<()> {
    let names: Vec<String> = MODULES
        .iter()
        .map(|module| module.name.to_owned())
        .collect();
    let known = admin.list::<SmartModuleSpec, _>(names).await?;
    let known: Vec<_> = known
        .into_iter()
        .map(|known| (known.name, known.spec))
        .collect();
    for (name, spec) in missing(&known, lookup)? {
        admin
            .create(name.clone(), false, spec)
            .await
            .with_context(|| format!("the cluster refused SmartModule {name}"))?;
    }
    Ok(())
}

/// As [`register`], in a broker of this process.
///
/// # Errors
/// If one cannot be stored, or there is a module of somebody else in its place.
pub async fn register_in(broker: &millrace_broker::Handle) -> anyhow::Result<()> {
    let known = broker.smart_modules().into_iter();
    let known: Vec<_> = known.map(|known| (known.name, known.spec)).collect();
    for (name, spec) in missing(&known, Lookup::Exact)? {
        broker.put_smart_module(&name, spec).await?;
    }
    Ok(())
}

impl Module {
    fn metadata(&self) -> anyhow::Result<SmartModuleMetadata> {
        SmartModuleMetadata::from_bytes(self.manifest.as_bytes())
            .with_context(|| format!("SmartModule.toml of {}", self.name))
    }

    fn spec(&self) -> anyhow::Result<SmartModuleSpec> {
        Ok(SmartModuleSpec {
            meta: Some(self.metadata()?),
            wasm: SmartModuleWasm::from_raw_wasm_bytes(self.wasm)?,
            ..SmartModuleSpec::default()
        })
    }
}

/// A module as a cluster lists it: the name that it is stored under, and what it is.
type Known = (String, SmartModuleSpec);

/// The modules to be registered, by their full names.
fn missing(known: &[Known], lookup: Lookup) -> anyhow::Result<Vec<Known>> {
    let mut missing = Vec::new();
    for module in MODULES {
        if let Some(spec) = wanted(module, known, lookup)? {
            missing.push((module.metadata()?.package.fqdn(), spec));
        }
    }
    Ok(missing)
}

/// What is to be registered of a module, given those that the cluster has:
/// 1. A module without a package that has its name and other content: a real cluster may run that one. Refused.
/// 2. The same package with the same content: nothing.
/// 3. The same package, described as ours is, with other content: another build of it. Replaced.
/// 4. The same package, described otherwise: somebody else's. Refused.
fn wanted(
    module: &Module,
    known: &[Known],
    lookup: Lookup,
) -> anyhow::Result<Option<SmartModuleSpec>> {
    let ours = module.spec()?;
    let full_name = ours.fqdn(module.name);
    let same_content = |spec: &SmartModuleSpec| {
        let wasm = spec.wasm.as_raw_wasm();
        wasm.is_ok_and(|wasm| wasm == module.wasm)
    };
    for (name, other) in known {
        if other.meta.is_none() && name == module.name && !same_content(other) {
            match lookup {
                Lookup::Exact => tracing::info!(name, "left alone: a SmartModule without a package"),
                Lookup::Loose => bail!(
                    "the cluster has a SmartModule {name} without a package, which Fluvio may run in place of \
                     {full_name}. If an older millrace registered it, `fluvio smartmodule delete {name}`; if \
                     it is somebody else's, it needs another name or a package of its own"
                ),
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
            (_, false) => bail!(
                "the cluster has another SmartModule of the name {full_name}, which millrace did not register. \
                 Find out whose it is; `fluvio smartmodule delete {full_name}` lets millrace register its own"
            ),
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
    use super::*;

    fn stored(spec: SmartModuleSpec, name: &str) -> Known {
        let stored = spec.meta.as_ref().map(SmartModuleMetadata::store_id);
        (stored.unwrap_or_else(|| name.to_owned()), spec)
    }

    fn foreign(name: &str) -> SmartModuleSpec {
        let rows = MODULES.iter().find(|module| module.name == name);
        let mut spec = rows.unwrap().spec().unwrap();
        spec.wasm = SmartModuleWasm::from_raw_wasm_bytes(b"(module)").unwrap();
        spec
    }

    #[test]
    fn ours_are_registered_as_packages_with_their_parameters() {
        let registered = missing(&[], Lookup::Loose).unwrap();
        let names: Vec<&str> = registered.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "millrace/columns@0.1.0",
                "millrace/user-event@0.1.0",
                "millrace/rows@0.1.0",
                "millrace/redact@0.1.0"
            ]
        );
        let redact = registered.into_iter().last().unwrap().1.meta.unwrap();
        assert!(!redact.params.get_param("policy").unwrap().optional);
        assert!(redact.params.get_param("salt").unwrap().optional);
    }

    #[test]
    fn what_is_registered_already_is_left_alone() {
        let registered = missing(&[], Lookup::Loose).unwrap();
        let known: Vec<Known> = registered
            .into_iter()
            .map(|(name, spec)| stored(spec, &name))
            .collect();
        assert!(missing(&known, Lookup::Loose).unwrap().is_empty());
    }

    #[test]
    fn a_strangers_module_is_never_replaced() {
        let mut stranger = foreign("rows");
        let package = &mut stranger.meta.as_mut().unwrap().package;
        package.description = Some("somebody else's".to_owned());
        let known = [stored(stranger, "rows")];
        for lookup in [Lookup::Exact, Lookup::Loose] {
            let refusal = missing(&known, lookup).unwrap_err().to_string();
            assert!(
                refusal.contains("fluvio smartmodule delete millrace/rows@0.1.0"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn another_build_of_ours_is_replaced() {
        let known = [stored(foreign("rows"), "rows")];
        assert_eq!(missing(&known, Lookup::Loose).unwrap().len(), MODULES.len());
    }

    #[test]
    fn packages_of_other_groups_and_versions_do_not_matter() {
        let mut group = foreign("rows");
        group.meta.as_mut().unwrap().package.group = "acme".to_owned();
        let mut version = foreign("rows");
        let package = &mut version.meta.as_mut().unwrap().package;
        package.version =
            fluvio_controlplane_metadata::smartmodule::FluvioSemVersion::parse("9.0.0").unwrap();
        let known = [stored(group, "rows"), stored(version, "rows")];
        assert_eq!(missing(&known, Lookup::Loose).unwrap().len(), MODULES.len());
    }

    #[test]
    fn a_bare_module_matters_only_where_it_could_run_instead() {
        let mut bare = foreign("rows");
        bare.meta = None;
        let known = [stored(bare, "rows")];
        assert_eq!(missing(&known, Lookup::Exact).unwrap().len(), MODULES.len());
        let refusal = missing(&known, Lookup::Loose).unwrap_err().to_string();
        assert!(
            refusal.contains("fluvio smartmodule delete rows"),
            "{refusal}"
        );
    }
}
