//! Kinds of chart, and the columns that each takes.

use serde::{Deserialize, Serialize};

use super::rows::{Column, Type};
use super::tiles::Width;
use crate::error::{Error, Result};

/// How a tile is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Key figures, each with its trend.
    Figures,
    /// Ordered steps.
    Funnel,
    /// Flows from node to node, by position.
    Sankey,
    /// A number for each pair of two things.
    HeatMap,
    /// A number for each thing, or for each part of each thing.
    Bar,
    /// Numbers by day.
    Line,
    /// What of each cohort came back.
    Retention,
    /// The rows as they are.
    Table,
}

/// What a column may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Text, a day, a time or a flag.
    Label,
    Number,
    /// A day or a time.
    Day,
    Flag,
    Numbers,
}

impl Role {
    fn takes(self, column: Type) -> bool {
        match self {
            Self::Label => matches!(column, Type::Text | Type::Day | Type::Time | Type::Flag),
            Self::Number => column == Type::Number,
            Self::Day => matches!(column, Type::Day | Type::Time),
            Self::Flag => column == Type::Flag,
            Self::Numbers => column == Type::Numbers,
        }
    }
}

impl Kind {
    /// Its name in `dashboard.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Figures => "figures",
            Self::Funnel => "funnel",
            Self::Sankey => "sankey",
            Self::HeatMap => "heat_map",
            Self::Bar => "bar",
            Self::Line => "line",
            Self::Retention => "retention",
            Self::Table => "table",
        }
    }

    /// The columns that it takes, in order; of several ways the longest that fits. Further columns stand in the table only.
    fn ways(self) -> &'static [&'static [Role]] {
        use Role::{Day, Flag, Label, Number, Numbers};
        match self {
            Self::Figures => {
                &[&[Label, Number, Number, Number, Numbers], &[Label, Number, Number, Number], &[Label, Number]]
            }
            Self::Funnel => &[&[Label, Number]],
            Self::Sankey => &[&[Number, Label, Label, Number]],
            Self::HeatMap => &[&[Label, Label, Number]],
            Self::Bar => &[&[Label, Label, Number], &[Label, Number]],
            Self::Line => &[&[Day, Label, Number], &[Day, Number]],
            Self::Retention => &[&[Label, Number, Number, Flag], &[Label, Number, Number]],
            Self::Table => &[&[]],
        }
    }

    /// The same in words.
    fn wants(self) -> &'static str {
        match self {
            Self::Figures => "a text and a number, then if you like two numbers (now and before) and a list of numbers",
            Self::Funnel => "a text (the step) and a number",
            Self::Sankey => "a number (the position), two texts (from and to) and a number",
            Self::HeatMap => "two texts (row and column) and a number",
            Self::Bar => "a text and a number, or two texts (the thing and its part) and a number",
            Self::Line => "a day and a number, or a day, a text (the line) and a number",
            Self::Retention => {
                "a text or day (the cohort), two numbers (the period and the rate), then if you like a flag (is complete)"
            }
            Self::Table => "anything",
        }
    }

    /// How many of the columns it draws.
    ///
    /// Errors: columns that do not fit it.
    pub fn fit(self, columns: &[Column]) -> Result<usize> {
        let fits = |way: &&&[Role]| {
            way.len() <= columns.len() && way.iter().zip(columns).all(|(role, column)| role.takes(column.data_type))
        };
        let found = self.ways().iter().find(fits).map(|way| way.len());
        found.ok_or_else(|| {
            let given: Vec<String> =
                columns.iter().map(|column| format!("{} ({})", column.name, column.data_type.name())).collect();
            Error::invalid(format!("a {} takes {}; the query gives {}", self.name(), self.wants(), given.join(", ")))
                .hint("columns are taken in their order: select them in this one, and cast what has another type")
        })
    }

    /// How wide a tile is unless it says so.
    pub fn width(self) -> Width {
        match self {
            Self::Figures | Self::Sankey | Self::Table | Self::Line => Width::Full,
            Self::Funnel | Self::HeatMap | Self::Bar | Self::Retention => Width::Half,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(types: &[Type]) -> Vec<Column> {
        let named = types.iter().enumerate();
        named.map(|(at, data_type)| Column { name: format!("c{at}"), data_type: *data_type }).collect()
    }

    #[test]
    fn columns_are_taken_in_order_and_further_ones_are_not_drawn() {
        use Type::{Day, Flag, Number, Numbers, Text, Time};
        for (kind, types, drawn) in [
            (Kind::Figures, &[Text, Number, Number, Number, Numbers][..], 5),
            (Kind::Figures, &[Text, Number, Text], 2),
            (Kind::Funnel, &[Text, Number, Number], 2),
            (Kind::Sankey, &[Number, Text, Text, Number], 4),
            (Kind::HeatMap, &[Text, Day, Number], 3),
            (Kind::Bar, &[Text, Text, Number], 3),
            (Kind::Bar, &[Text, Number, Number], 2),
            (Kind::Line, &[Time, Text, Number], 3),
            (Kind::Line, &[Day, Number], 2),
            (Kind::Retention, &[Day, Number, Number, Flag], 4),
            (Kind::Table, &[Numbers], 0),
        ] {
            assert_eq!(kind.fit(&columns(types)).unwrap(), drawn, "{kind:?} {types:?}");
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_told_beside_those_that_would() {
        let error = Kind::HeatMap.fit(&columns(&[Type::Text, Type::Number])).unwrap_err();
        let told = "a heat_map takes two texts (row and column) and a number; the query gives c0 (text), c1 (number)";
        assert_eq!(error.to_string(), told);
        assert!(error.remedy().unwrap().contains("in their order"));
        for kind in [Kind::Figures, Kind::Funnel, Kind::Sankey, Kind::Bar, Kind::Line, Kind::Retention] {
            assert!(kind.fit(&columns(&[Type::Flag])).is_err(), "{kind:?}");
        }
    }
}
