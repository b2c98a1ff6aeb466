//! Security groups: who may open connections to the interfaces that carry them (spec 4.2).

use std::collections::{BTreeSet, HashSet};

use postern_model::id::{SecurityGroupId, SecurityGroupRuleId, VpcId};
use postern_model::security::IngressRule;
use postern_model::{AccountId, Code};
use postern_proto::page::Page;

use super::App;
use super::vpcs::{still_in_use, unknown_vpc};
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::store::Tx;
use crate::store::fleet::{self, Touched};
use crate::store::security_groups::{self, GroupRow, NewGroup, NewRule};

/// How many groups a page has at most: each comes with all its rules, and a client reads 4 MiB.
const PAGE_MAX: u32 = 100;

/// Asks for a group.
#[derive(Clone, Debug)]
pub struct CreateSecurityGroup {
    /// The VPC that it belongs to.
    pub vpc: VpcId,
    /// Its name.
    pub name: GroupName,
    /// What it is for.
    pub description: String,
}

/// The name of a group that can be made: not `default`, not starting `sg-`, of AWS's characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName(String);

/// The characters of a group's name and of what it is for, on AWS.
const SIGNS: &str = " ._-:/()#,@[]+=&;{}!$*";
/// The most characters that each of them has.
const WORDS_MAX: usize = 255;

impl GroupName {
    /// Reads the name in `field`.
    ///
    /// # Errors
    ///
    /// `InvalidGroup.Reserved` for `default`, else `InvalidParameterValue`.
    pub fn parse(field: &str, name: String) -> Result<Self> {
        // Reserved whatever its case: names are unique ignoring it.
        if name.eq_ignore_ascii_case("default") {
            let reason = "the name 'default' is reserved for the group that a VPC comes with";
            return Err(Error::of_field(Code::InvalidGroupReserved, field, reason));
        }
        let bad = |reason| Err(Error::of_field(Code::InvalidParameterValue, field, reason));
        if name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("sg-")) {
            return bad("must not start with 'sg-': ids do".to_owned());
        }
        if name.trim() != name {
            return bad("must not begin or end with a space".to_owned());
        }
        Ok(Self(plain(field, name)?))
    }
}

/// Words of AWS's characters, at most 255 of them.
///
/// # Errors
///
/// `InvalidParameterValue`.
pub fn plain(field: &str, text: String) -> Result<String> {
    let bad = |reason| Err(Error::of_field(Code::InvalidParameterValue, field, reason));
    if text.len() > WORDS_MAX && text.chars().count() > WORDS_MAX {
        return bad(format!("must have at most {WORDS_MAX} characters"));
    }
    match text.chars().find(|sign| !sign.is_ascii_alphanumeric() && !SIGNS.contains(*sign)) {
        Some(sign) => bad(format!("must not have {sign:?}: letters a-z, digits and {SIGNS}")),
        None => Ok(text),
    }
}

/// Asks to add ingress rules, all or none.
#[derive(Clone, Debug)]
pub struct AuthorizeIngress {
    /// The group.
    pub group: SecurityGroupId,
    /// What to let in, each with words for people; at least one.
    pub permissions: Vec<(IngressRule, String)>,
}

/// Asks to remove ingress rules, all or none.
#[derive(Clone, Debug)]
pub struct RevokeIngress {
    /// The group.
    pub group: SecurityGroupId,
    /// The rules; at least one.
    pub rules: Vec<SecurityGroupRuleId>,
}

impl App {
    /// Makes a group that lets nobody in yet.
    ///
    /// # Errors
    ///
    /// `InvalidVpcID.NotFound`, `InvalidGroup.Duplicate`, `SecurityGroupLimitExceeded`; the database
    /// away.
    pub async fn create_security_group(
        &self,
        caller: &Caller,
        command: CreateSecurityGroup,
    ) -> Result<GroupRow> {
        let owner = caller.account()?;
        let CreateSecurityGroup { vpc, name: GroupName(name), description } = command;
        let max = self.settings.quotas.groups_per_vpc;
        let id = SecurityGroupId::generate(&mut rand::rng());
        let new = NewGroup { id, vpc, name: &name, description: &description };
        let mut tx = self.store.begin().await?;
        if !security_groups::lock_vpc(&mut tx, owner, vpc).await? {
            return Err(unknown_vpc(vpc));
        }
        let made = security_groups::insert(&mut tx, owner, new, max).await;
        let made = made.map_err(|error| match violated(&error) {
            Some("security_group_name_once") => {
                let reason = format!("the VPC '{vpc}' has a group '{name}' already");
                Error::of_field(Code::InvalidGroupDuplicate, "group_name", reason)
            }
            _ => error.into(),
        })?;
        let group = made.ok_or_else(|| {
            let message = format!("the VPC has {max} security groups already");
            Error::refused(Code::SecurityGroupLimitExceeded, message)
        })?;
        tx.commit().await?;
        Ok(group)
    }

    /// Returns a group with its rules.
    ///
    /// # Errors
    ///
    /// `InvalidSecurityGroupID.NotFound`; the database away.
    pub async fn get_security_group(
        &self,
        caller: &Caller,
        id: SecurityGroupId,
    ) -> Result<GroupRow> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        security_groups::find(&mut db, owner, id).await?.ok_or_else(|| unknown_group(id))
    }

    /// Lists the caller's groups with their rules, of one VPC when given.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn list_security_groups(
        &self,
        caller: &Caller,
        vpc: Option<VpcId>,
        page: &Page,
    ) -> Result<(Vec<GroupRow>, String)> {
        let owner = caller.account()?;
        let page = Page { size: page.size.min(PAGE_MAX), after: page.after.clone() };
        let mut db = self.store.acquire().await?;
        let mut groups = security_groups::list(&mut db, owner, vpc, &page).await?;
        let next = page.cut(&mut groups, |group| group.id.to_string());
        Ok((groups, next))
    }

    /// Deletes a group that nobody uses.
    ///
    /// # Errors
    ///
    /// `InvalidSecurityGroupID.NotFound`, `CannotDelete` for a VPC's default group,
    /// `DependencyViolation`; the database away.
    pub async fn delete_security_group(&self, caller: &Caller, id: SecurityGroupId) -> Result<()> {
        let owner = caller.account()?;
        let mut tx = self.store.begin().await?;
        if lock(&mut tx, owner, id).await? {
            let message = format!("the group '{id}' is its VPC's default group and goes with it");
            return Err(Error::refused(Code::CannotDelete, message));
        }
        let left = security_groups::dependents(&mut tx, id).await?;
        if !left.is_empty() {
            return Err(still_in_use(&format!("the group '{id}'"), &left));
        }
        security_groups::delete(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Adds ingress rules to a group. The hosts of the interfaces that carry it hear of them. Returns
    /// the rules in the order asked.
    ///
    /// # Errors
    ///
    /// `InvalidSecurityGroupID.NotFound`, `InvalidPermission.Duplicate`,
    /// `RulesPerSecurityGroupLimitExceeded`; the database away.
    pub async fn authorize_ingress(
        &self,
        caller: &Caller,
        command: AuthorizeIngress,
    ) -> Result<Vec<NewRule>> {
        let owner = caller.account()?;
        let AuthorizeIngress { group, permissions } = command;
        let max = self.settings.quotas.rules_per_group;
        let full = || {
            let message = format!("the group '{group}' would have more than {max} rules");
            Error::refused(Code::RulesPerSecurityGroupLimitExceeded, message)
        };
        let mut seen = HashSet::new();
        for (number, (rule, _)) in permissions.iter().enumerate() {
            if !seen.insert(*rule) {
                let field = format!("ip_permissions[{number}]");
                let reason = format!("the rule '{rule}' is asked for twice");
                return Err(Error::of_field(Code::InvalidPermissionDuplicate, field, reason));
            }
        }
        let rules: Vec<_> = permissions
            .into_iter()
            .map(|(rule, description)| {
                let id = SecurityGroupRuleId::generate(&mut rand::rng());
                NewRule { id, rule, description }
            })
            .collect();
        let mut tx = self.store.begin().await?;
        lock(&mut tx, owner, group).await?;
        let added = security_groups::insert_rules(&mut tx, group, &rules, max).await;
        let added = added.map_err(|error| match violated(&error) {
            Some("security_group_rule_once") => {
                let message = format!("the group '{group}' has one of these rules already");
                Error::refused(Code::InvalidPermissionDuplicate, message)
            }
            _ => error.into(),
        })?;
        if !added {
            return Err(full());
        }
        self.rules_changed(tx, group).await?;
        Ok(rules)
    }

    /// Removes ingress rules from a group. The hosts of the interfaces that carry it hear of it.
    ///
    /// # Errors
    ///
    /// `InvalidSecurityGroupID.NotFound`, `InvalidPermission.NotFound`; the database away.
    pub async fn revoke_ingress(&self, caller: &Caller, command: RevokeIngress) -> Result<()> {
        let owner = caller.account()?;
        let RevokeIngress { group, rules } = command;
        let mut tx = self.store.begin().await?;
        lock(&mut tx, owner, group).await?;
        let deleted = security_groups::delete_rules(&mut tx, group, &rules).await?;
        let deleted: BTreeSet<_> = deleted.into_iter().collect();
        if let Some(missing) = rules.iter().position(|rule| !deleted.contains(rule)) {
            let field = format!("security_group_rule_ids[{missing}]");
            let reason = format!("the group '{group}' has no rule '{}'", rules[missing]);
            return Err(Error::of_field(Code::InvalidPermissionNotFound, field, reason));
        }
        self.rules_changed(tx, group).await
    }

    /// Lets the hosts of the interfaces that carry a group hear of its rules, and commits.
    async fn rules_changed(&self, mut tx: Tx, group: SecurityGroupId) -> Result<()> {
        let mut touched = Touched::default();
        for interface in security_groups::interfaces(&mut tx, group).await? {
            touched.interface(interface);
        }
        let hosts = fleet::advance(&mut tx, &touched, &super::trace_context()).await?;
        tx.commit().await?;
        self.poke_hosts(&hosts);
        Ok(())
    }
}

/// Holds a group of the caller's account until the commit, and says whether it is a default one.
async fn lock(tx: &mut Tx, owner: AccountId, id: SecurityGroupId) -> Result<bool> {
    security_groups::lock(tx, owner, id).await?.ok_or_else(|| unknown_group(id))
}

/// The refusal for a group that the caller has not.
pub(crate) fn unknown_group(id: SecurityGroupId) -> Error {
    let message = format!("the security group '{id}' does not exist");
    Error::refused(Code::InvalidSecurityGroupNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(name: &str) -> Option<Code> {
        match GroupName::parse("group_name", name.to_owned()) {
            Ok(_) => None,
            Err(Error::Refused(refusal)) => Some(refusal.code),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_groups_name_is_of_awss_characters_and_not_reserved() {
        assert_eq!(code("web (front) #1"), None);
        assert_eq!(code("Default"), Some(Code::InvalidGroupReserved));
        for name in ["sg-web", "SG-web", " web", "web\n", "wéb", &"a".repeat(256)] {
            assert_eq!(code(name), Some(Code::InvalidParameterValue), "{name}");
        }
    }
}
