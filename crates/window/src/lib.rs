//! Panes, levels, cohorts and watermarks over integers; knows no shop.
