//! Every catalogue of words, for the test that holds the languages against each other.

use super::{
    alarms, audit, change, exposed, fleet, kinds, machines, matrix, readers, rotation, secret,
    secrets,
};
use crate::page::records::Deeds;
use crate::page::words::Words;

/// Returns every word by its name, in English and German.
pub(in crate::page) fn all() -> Vec<(&'static str, &'static str, &'static str)> {
    let all = [
        Words::all(),
        Deeds::all(),
        alarms::Alarms::all(),
        audit::Audit::all(),
        change::Change::all(),
        exposed::Keys::all(),
        fleet::Fleet::all(),
        kinds::Kinds::all(),
        machines::Hosts::all(),
        matrix::Matrix::all(),
        readers::Readers::all(),
        readers::heat::Hours::all(),
        rotation::Rotations::all(),
        secret::One::all(),
        secrets::Tree::all(),
    ];
    all.concat()
}
