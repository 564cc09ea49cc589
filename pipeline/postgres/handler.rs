//! Statements of clients: planned over the newest state of the lake, refused where they would write, and limited in time.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::sqlparser::ast::{DeclareType, Expr as Expression, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, df, into_pg_type};
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::hooks::cursor::CursorStatementHook;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::portal::{Format, Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{
    DescribePortalResponse, DescribeStatementResponse, FieldInfo, Response, Tag,
};
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, Type};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use futures::Sink;
use tokio::time::Instant;

use super::answer::{answer, failed, refused, timed_out, with_plain_lists};
use super::authentication::Admitted;
use super::catalog::Catalog;
use crate::engine;
use crate::error::Error;

/// What is kept of a prepared statement: the text, and the statement with the plan by which it was described. The hooks of
/// the library expect this type.
type Prepared = (String, Option<(Statement, LogicalPlan)>);

/// Answers every client.
pub struct Handler {
    planner: Arc<Planner>,
    timeout: Duration,
}

impl Handler {
    pub fn new(catalog: Arc<Catalog>, timeout: Duration) -> Self {
        Self { planner: Arc::new(Planner { catalog, parser: PostgresCompatibilityParser::new() }), timeout }
    }

    /// The time by which a statement that begins now must have ended: what the client set, at most what the server allows.
    fn deadline<C: ClientInfo + ?Sized>(&self, client: &C) -> Instant {
        let set = client.metadata().get("statement_timeout_ms").and_then(|text| text.parse().ok());
        Instant::now() + set.map(Duration::from_millis).map_or(self.timeout, |set| set.min(self.timeout))
    }

    /// One statement of a simple query.
    async fn one<C>(
        &self,
        client: &mut C,
        session: &SessionContext,
        sent: &str,
        statement: Option<Statement>,
    ) -> PgWireResult<Response>
    where
        C: HookClient,
    {
        let deadline = self.deadline(client);
        let Some(statement) = statement else {
            let query = query(session, sent, sent).await?;
            return Ok(Response::Query(answer(client, sent, query, &Format::UnifiedText, deadline).await?));
        };
        if let Some(response) = self.session_statement(client, session, &statement, deadline).await {
            return response;
        }
        let plan = within(deadline, self.planner.plan(session, sent, &statement)).await?;
        let query = DataFrame::new(session.state(), plan);
        Ok(Response::Query(answer(client, sent, query, &Format::UnifiedText, deadline).await?))
    }

    /// What is no query: settings of the connection, transactions, of which there is one, and cursors.
    async fn session_statement<C>(
        &self,
        client: &mut C,
        session: &SessionContext,
        statement: &Statement,
        deadline: Instant,
    ) -> Option<PgWireResult<Response>>
    where
        C: HookClient,
    {
        if let Statement::Declare { stmts } = statement {
            for declared in stmts.iter().filter(|declared| declared.declare_type == Some(DeclareType::Cursor)) {
                let (Some(name), Some(query)) = (declared.names.first(), &declared.for_query) else { continue };
                let (name, query) = (name.value.clone(), Statement::Query(query.clone()));
                if let Err(error) = self.declare(client, session, name, &query, deadline).await {
                    return Some(Err(error));
                }
            }
            return Some(Ok(Response::Execution(Tag::new("DECLARE CURSOR"))));
        }
        for hook in hooks() {
            if let Some(response) = hook.handle_simple_query(statement, session, client).await {
                return Some(response);
            }
        }
        None
    }

    async fn declare<C>(
        &self,
        client: &mut C,
        session: &SessionContext,
        name: String,
        query: &Statement,
        deadline: Instant,
    ) -> PgWireResult<()>
    where
        C: HookClient,
    {
        let text = query.to_string();
        let plan = within(deadline, self.planner.plan(session, &text, query)).await?;
        let frame = DataFrame::new(session.state(), plan);
        let rows = answer(client, &text, frame, &Format::UnifiedText, deadline).await?;
        let statement = Arc::new(StoredStatement::new(name.clone(), (text, None), vec![]));
        let portal = Portal::new_cursor(name, statement);
        portal.start(rows).await;
        client.portal_store().put_portal(Arc::new(portal));
        Ok(())
    }
}

/// A function by which drivers ask for keys and indices, of which there are none.
const KEYS_OF: &str = "_pg_expandarray";
/// What psql and JDBC ask that the engine has no words for, or looks up elsewhere, and what it would be answered.
const REWRITTEN: [(&str, &str); 2] = [
    (
        "pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from pg_catalog.unnest(tc.reloptions) x), ', ')",
        "''",
    ),
    // A bare name is looked up among the tables of the user alone.
    ("'pg_class'::regclass", "'pg_catalog.pg_class'::regclass"),
];

/// A statement that gives the columns of another and no rows.
fn without_rows(sent: &str) -> PgWireResult<Statement> {
    let unread = |error: ParserError| failed(sent, Error::invalid(error.to_string()));
    let statement = Parser::parse_sql(&PostgreSqlDialect {}, sent).map_err(unread)?.pop();
    let mut names = Vec::new();
    if let Some(Statement::Query(query)) = statement
        && let SetExpr::Select(select) = *query.body
    {
        names.extend(select.projection.iter().map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            SelectItem::UnnamedExpr(Expression::CompoundIdentifier(names)) => {
                names.last().map_or_else(String::new, |name| name.value.clone())
            }
            other => other.to_string(),
        }));
    }
    let columns: Vec<String> =
        names.iter().map(|name| format!("cast(null as varchar) as \"{}\"", name.replace('"', ""))).collect();
    let text = format!("select {} where false", columns.join(", "));
    let statement = Parser::parse_sql(&PostgreSqlDialect {}, &text).map_err(unread)?.pop();
    statement.ok_or_else(|| failed(sent, Error::invalid("expected a statement, and none came")))
}

/// What the library knows to answer without a query.
fn hooks() -> [Arc<dyn QueryHook>; 3] {
    [Arc::new(SetShowHook), Arc::new(TransactionStatementHook), Arc::new(CursorStatementHook)]
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        expect_admitted(client)?;
        let session = self.planner.session(query).await?;
        let statements = self.planner.parse(query)?;
        let queries = statements.iter().filter(|statement| statement.as_ref().is_none_or(is_query)).count();
        if queries > 1 {
            let error = Error::invalid("expected one statement, and several came").hint("send one at a time");
            return Err(failed(query, error));
        }
        let mut responses = Vec::new();
        for statement in statements {
            responses.push(self.one(client, &session, query, statement).await?);
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Planner;

    fn query_parser(&self) -> Arc<Planner> {
        self.planner.clone()
    }

    async fn do_describe_statement<C>(
        &self,
        client: &mut C,
        statement: &StoredStatement<Prepared>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let Some(fields) = columns_of_cursor(client.portal_store(), &statement.statement).await {
            return Ok(DescribeStatementResponse::new(vec![], fields));
        }
        let types = self.planner.get_parameter_types(&statement.statement)?;
        let count = types.len().max(statement.parameter_types.len());
        // What the client says of a parameter counts.
        let types = (0..count).map(|at| {
            let said = statement.parameter_types.get(at).cloned().flatten();
            said.or_else(|| types.get(at).cloned()).unwrap_or(Type::UNKNOWN)
        });
        let fields = self.planner.get_result_schema(&statement.statement, None)?;
        Ok(DescribeStatementResponse::new(types.collect(), fields))
    }

    async fn do_describe_portal<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // A cursor knows its columns once it is declared.
        if let PortalExecutionState::Suspended(rows) = &*portal.state().lock().await {
            return Ok(DescribePortalResponse::new(rows.row_schema.as_ref().clone()));
        }
        let statement = &portal.statement.statement;
        if let Some(fields) = columns_of_cursor(client.portal_store(), statement).await {
            return Ok(DescribePortalResponse::new(fields));
        }
        let fields = self.planner.get_result_schema(statement, Some(&portal.result_column_format))?;
        Ok(DescribePortalResponse::new(fields))
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        expect_admitted(client)?;
        let (text, Some((statement, described))) = &portal.statement.statement else {
            return Ok(Response::EmptyQuery);
        };
        let deadline = self.deadline(client);
        let session = self.planner.session(text).await?;
        if let Some(response) = self.session_statement(client, &session, statement, deadline).await {
            return response;
        }
        // The tables of the plan that described the statement may be of an older state.
        let plan = within(deadline, self.planner.plan(&session, text, statement)).await?;
        if plan.schema().as_arrow().fields().iter().map(|field| field.data_type()).ne(described
            .schema()
            .as_arrow()
            .fields()
            .iter()
            .map(|field| field.data_type()))
        {
            let info = ErrorInfo::new("ERROR".into(), "0A000".into(), "cached plan must not change result type".into());
            return Err(PgWireError::UserError(Box::new(info)));
        }
        let types = parameter_types(&plan).map_err(|error| failed(text, error.into()))?;
        let inferred: Vec<Option<&DataType>> = types.iter().map(Option::as_ref).collect();
        let wire = wire_types(&types)?;
        let wire: Vec<Option<&Type>> = wire.iter().map(Some).collect();
        let values = df::deserialize_parameters_with_server_types(portal, &inferred, &wire)?;
        let plan = plan.replace_params_with_values(&values).map_err(|error| failed(text, error.into()))?;
        let query = DataFrame::new(session.state(), plan);
        Ok(Response::Query(answer(client, text, query, &portal.result_column_format, deadline).await?))
    }
}

/// The columns of the rows that a `fetch` gets.
async fn columns_of_cursor<S>(store: &S, (_, prepared): &Prepared) -> Option<Vec<FieldInfo>>
where
    S: PortalStore<Statement = Prepared>,
{
    let Some((Statement::Fetch { name, .. }, _)) = prepared else { return None };
    let Some(Entry::Value(portal)) = store.get_portal(&name.value) else { return None };
    match &*portal.state().lock().await {
        PortalExecutionState::Suspended(rows) => Some(rows.row_schema.as_ref().clone()),
        _ => None,
    }
}

/// Parses and plans; describes prepared statements.
pub struct Planner {
    catalog: Arc<Catalog>,
    parser: PostgresCompatibilityParser,
}

impl Planner {
    async fn session(&self, sent: &str) -> PgWireResult<SessionContext> {
        self.catalog.session().await.map_err(|error| failed(sent, error))
    }

    /// The statements of a text, with what clients of PostgreSQL write put into words of the engine. `None` stands for a
    /// text that only the engine understands.
    fn parse(&self, sent: &str) -> PgWireResult<Vec<Option<Statement>>> {
        if sent.contains(KEYS_OF) {
            return Ok(vec![Some(without_rows(sent)?)]);
        }
        // Its clause is spelled otherwise in the dialect of PostgreSQL.
        if sent.to_lowercase().contains("match_recognize") {
            return Ok(vec![None]);
        }
        let known = REWRITTEN.iter().fold(sent.to_string(), |text, (from, to)| text.replace(from, to));
        match self.parser.parse(&known) {
            Ok(statements) => Ok(statements.into_iter().map(Some).collect()),
            Err(_) => Ok(vec![None]),
        }
    }

    /// Plans a statement that only reads.
    async fn plan(&self, session: &SessionContext, sent: &str, statement: &Statement) -> PgWireResult<LogicalPlan> {
        let text = statement.to_string();
        let query = query(session, &text, sent).await?;
        let plan = query.logical_plan().clone();
        match reads_settings(&plan) {
            true => Err(refused("settings of the server are not shown")),
            false => Ok(plan),
        }
    }
}

/// Plans a query for this protocol; `sent` is what the client sees in errors.
async fn query(session: &SessionContext, sql: &str, sent: &str) -> PgWireResult<DataFrame> {
    let query = engine::query(session, sql).await.and_then(with_plain_lists);
    query.map_err(|error| failed(sent, error))
}

/// Whether a plan reads what the server is set up with.
fn reads_settings(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found |= scan.table_name.table() == "df_settings";
        }
        Ok::<_, DataFusionError>(TreeNodeRecursion::Continue)
    });
    walked.is_err() || found
}

#[async_trait]
impl QueryParser for Planner {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        expect_admitted(client)?;
        let mut statements = self.parse(sql)?;
        if statements.len() > 1 {
            let error = Error::invalid("expected one statement, and several came").hint("send one at a time");
            return Err(failed(sql, error));
        }
        let Some(statement) = statements.pop() else { return Ok(None) };
        let session = self.session(sql).await?;
        let Some(statement) = statement else {
            // It is no SQL of PostgreSQL: the engine says what is wrong, or knows it and cannot prepare it.
            engine::query(&session, sql).await.map_err(|error| failed(sql, error))?;
            let error = Error::invalid("match_recognize cannot be prepared").hint("send it as a simple query");
            return Err(failed(sql, error));
        };
        for hook in hooks() {
            if let Some(plan) = hook.handle_extended_parse_query(&statement, &session, client).await {
                return Ok(Some((sql.to_string(), Some((statement, plan?)))));
            }
        }
        let plan = self.plan(&session, sql, &statement).await?;
        Ok(Some((sql.to_string(), Some((statement, plan)))))
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        match statement {
            (sql, Some((_, plan))) => wire_types(&parameter_types(plan).map_err(|error| failed(sql, error.into()))?),
            _ => Ok(Vec::new()),
        }
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        match statement {
            (_, Some((_, plan))) => {
                arrow_schema_to_pg_fields(plan.schema().as_arrow(), format.unwrap_or(&Format::UnifiedText), None)
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// The type of each parameter of a plan, in the order of their numbers; one that is not compared with anything takes that
/// of the cast around it.
fn parameter_types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, DataFusionError> {
    let mut types = plan.get_parameter_types()?;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|expression| {
                if let Expr::Cast(cast) = expression
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    let found = types.entry(placeholder.id.clone()).or_default();
                    found.get_or_insert_with(|| cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let mut ordered: Vec<(u32, Option<DataType>)> =
        types.into_iter().map(|(id, kind)| (id.trim_start_matches('$').parse().unwrap_or(u32::MAX), kind)).collect();
    ordered.sort_by_key(|(number, _)| *number);
    Ok(ordered.into_iter().map(|(_, kind)| kind).collect())
}

fn wire_types(types: &[Option<DataType>]) -> PgWireResult<Vec<Type>> {
    types.iter().map(|kind| kind.as_ref().map_or(Ok(Type::UNKNOWN), into_pg_type)).collect()
}

/// Nothing is answered to a client that has not come in.
fn expect_admitted<C: ClientInfo + ?Sized>(client: &C) -> PgWireResult<()> {
    match client.session_extensions().get::<Admitted>() {
        Some(_) => Ok(()),
        None => {
            let info = ErrorInfo::new("FATAL".into(), "28000".into(), "log in first".into());
            Err(PgWireError::UserError(Box::new(info)))
        }
    }
}

async fn within<T>(deadline: Instant, work: impl Future<Output = PgWireResult<T>>) -> PgWireResult<T> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Whether a statement is answered with rows of a plan, and does not only set up a connection.
fn is_query(statement: &Statement) -> bool {
    !matches!(
        statement,
        Statement::Set(_)
            | Statement::ShowVariable { .. }
            | Statement::StartTransaction { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Close { .. }
            | Statement::Declare { .. }
            | Statement::Fetch { .. }
    )
}
