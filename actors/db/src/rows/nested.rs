//! Rows of the entities that hold others: source stamps (their patch), changes (their source stamp), buildsets (theirs).

use super::*;

/// By what an equal source stamp is found again.
pub fn stamp_hash(stamp: &greenroom_model::write::NewSourceStamp) -> Result<String, EngineError> {
    use sha2::{Digest, Sha256};
    let patch = stamp.patch.as_ref().map(|p| (p.level, &p.subdir, &p.author, &p.comment, &p.body));
    let all = (&stamp.branch, &stamp.revision, &stamp.project, &stamp.repository, &stamp.codebase, patch);
    let text = serde_json::to_string(&all).map_err(|e| EngineError::Rejected(e.to_string()))?;
    Ok(Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect())
}

/// The row of a source stamp; its hash comes from the values it was made of.
pub fn stamp_row(e: &SourceStamp, hash: &str) -> Row {
    vec![
        e.id.0.into(),
        opt_text(&e.branch),
        opt_text(&e.revision),
        text(&e.project),
        text(&e.repository),
        text(&e.codebase),
        time(e.created_at),
        e.patch.as_ref().map(|p| p.id.0).into(),
        hash.into(),
    ]
}

#[async_trait]
impl RowMapped for SourceStamp {
    const TABLE: &'static Table = &SOURCESTAMPS;

    fn to_row(&self) -> Result<Row, EngineError> {
        let new = greenroom_model::write::NewSourceStamp {
            branch: self.branch.clone(),
            revision: self.revision.clone(),
            project: self.project.clone(),
            repository: self.repository.clone(),
            codebase: self.codebase.clone(),
            patch: self.patch.clone().map(|p| greenroom_model::write::NewPatch {
                level: p.level,
                subdir: p.subdir,
                author: p.author,
                comment: p.comment,
                body: p.body,
            }),
        };
        Ok(stamp_row(self, &stamp_hash(&new)?))
    }

    async fn from_rows(rows: Vec<Row>, tx: &mut dyn ReadTx) -> Result<Vec<Self>, EngineError> {
        let mut stamps = Vec::with_capacity(rows.len());
        let mut wanted = Vec::new();
        for row in rows {
            let mut f = Fields::new(&SOURCESTAMPS, row);
            let stamp = SourceStamp {
                id: f.id()?,
                branch: f.opt_text()?,
                revision: f.opt_text()?,
                project: f.text()?,
                repository: f.text()?,
                codebase: f.text()?,
                created_at: f.time()?,
                patch: None,
            };
            let patch = f.opt_int()?;
            wanted.extend(patch);
            stamps.push((stamp, patch));
        }
        let patches = load_where::<Patch>(tx, "patchid", &wanted, &[]).await?;
        let patches: HashMap<i64, Arc<Patch>> = patches.into_iter().map(|p| (p.id.0, p)).collect();
        let whole = |(mut stamp, patch): (SourceStamp, Option<i64>)| {
            stamp.patch = patch.and_then(|id| patches.get(&id)).map(|p| (**p).clone());
            stamp
        };
        Ok(stamps.into_iter().map(whole).collect())
    }
}

/// Source stamps by id.
async fn stamps(
    tx: &mut dyn ReadTx,
    mut ids: Vec<i64>,
) -> Result<HashMap<i64, Arc<SourceStamp>>, EngineError> {
    ids.sort_unstable();
    ids.dedup();
    Ok(load_where::<SourceStamp>(tx, "ssid", &ids, &[]).await?.into_iter().map(|s| (s.id.0, s)).collect())
}

fn stamp_of(stamps: &HashMap<i64, Arc<SourceStamp>>, id: i64) -> Result<Arc<SourceStamp>, EngineError> {
    stamps.get(&id).cloned().ok_or_else(|| EngineError::Damaged(format!("there is no source stamp {id}")))
}

/// The row of a change of an origin (`hook`, `poll` or `manual`), which is no part of the entity.
pub fn change_row(e: &Change, origin: &str) -> Result<Row, EngineError> {
    Ok(vec![
        e.id.0.into(),
        text(&e.author),
        opt_text(&e.committer),
        text(&e.comments),
        opt_text(&e.branch),
        opt_text(&e.revision),
        opt_text(&e.revlink),
        time(e.when),
        opt_text(&e.category),
        json(&e.parents)?,
        text(&e.repository),
        text(&e.codebase),
        text(&e.project),
        json(&e.files)?,
        json(&e.properties)?,
        e.sourcestamp.id.0.into(),
        origin.into(),
    ])
}

#[async_trait]
impl RowMapped for Change {
    const TABLE: &'static Table = &CHANGES;

    fn to_row(&self) -> Result<Row, EngineError> {
        change_row(self, "manual")
    }

    async fn from_rows(rows: Vec<Row>, tx: &mut dyn ReadTx) -> Result<Vec<Self>, EngineError> {
        let place = CHANGES.position("ssid").unwrap_or_default();
        let ids =
            rows.iter().filter_map(|r| if let Value::Int(id) = r[place] { Some(id) } else { None }).collect();
        let stamps = stamps(tx, ids).await?;
        let change = |row| {
            let mut f = Fields::new(&CHANGES, row);
            Ok(Change {
                id: f.id()?,
                author: f.text()?,
                committer: f.opt_text()?,
                comments: f.text()?,
                branch: f.opt_text()?,
                revision: f.opt_text()?,
                revlink: f.opt_text()?,
                when: f.time()?,
                category: f.opt_text()?,
                parents: f.json()?,
                repository: f.text()?,
                codebase: f.text()?,
                project: f.text()?,
                files: f.json()?,
                properties: f.json()?,
                sourcestamp: stamp_of(&stamps, f.int()?)?,
            })
        };
        rows.into_iter().map(change).collect()
    }
}

#[async_trait]
impl RowMapped for Buildset {
    const TABLE: &'static Table = &BUILDSETS;

    fn to_row(&self) -> Result<Row, EngineError> {
        Ok(vec![
            self.id.0.into(),
            opt_text(&self.external_id),
            text(&self.reason),
            time(self.submitted_at),
            self.complete_at.is_some().into(),
            opt_time(self.complete_at),
            results(self.results),
            self.parent_build.map(|b| b.0).into(),
            opt_text(&self.parent_relationship),
            self.rebuilt_build.map(|b| b.0).into(),
            opt_text(&self.scheduler),
            self.version.into(),
        ])
    }

    async fn from_rows(rows: Vec<Row>, tx: &mut dyn ReadTx) -> Result<Vec<Self>, EngineError> {
        let mut sets = rows.into_iter().map(bare_buildset).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<i64> = sets.iter().map(|s| s.id.0).collect();
        let mut of_set: HashMap<i64, Vec<i64>> = HashMap::new();
        for piece in ids.chunks(CHUNK) {
            let select = Select::from(&BUILDSET_SOURCESTAMPS)
                .filter(Cond::ids("bsid", piece.iter().copied()))
                .order("bsid", false)
                .order("position", false);
            for row in tx.select(&select).await? {
                let mut f = Fields::new(&BUILDSET_SOURCESTAMPS, row);
                let (set, _, stamp) = (f.int()?, f.int()?, f.int()?);
                of_set.entry(set).or_default().push(stamp);
            }
        }
        let stamps = stamps(tx, of_set.values().flatten().copied().collect()).await?;
        for set in &mut sets {
            let ids = of_set.remove(&set.id.0).unwrap_or_default();
            set.sourcestamps = ids.into_iter().map(|id| stamp_of(&stamps, id)).collect::<Result<_, _>>()?;
        }
        Ok(sets)
    }
}

fn bare_buildset(row: Row) -> Result<Buildset, EngineError> {
    let mut f = Fields::new(&BUILDSETS, row);
    Ok(Buildset {
        id: f.id()?,
        external_id: f.opt_text()?,
        reason: f.text()?,
        submitted_at: f.time()?,
        complete_at: {
            f.skip();
            f.opt_time()?
        },
        results: f.results()?,
        parent_build: f.opt_id()?,
        parent_relationship: f.opt_text()?,
        rebuilt_build: f.opt_id()?,
        scheduler: f.opt_text()?,
        version: f.int()?,
        sourcestamps: Vec::new(),
    })
}
