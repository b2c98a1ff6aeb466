//! Tests of agents between network namespaces.
