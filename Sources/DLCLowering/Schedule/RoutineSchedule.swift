/// How boxes are put together into one result.
package struct AssemblySchedule: Hashable, Sendable, Codable {
  /// One for each box that is copied, in order.
  package var pieces: [RowSchedule]
  /// Boxes that one kernel copies at most: each is code that LLVM sees at once.
  package var merged: Int
  /// Elements of a tile that fills what no box covers.
  package var fillBlock: Int

  /// Elements of such a tile, whatever is filled.
  static let usualFillBlock = 1 << 16
}

/// How an algorithm of its own (scatter, updates, prefixes, sorting, factorisations) runs.
package struct RoutineSchedule: Hashable, Sendable, Codable {
  /// How the operand that is updated is copied to the result, where it is.
  package var copy: RowSchedule?
  /// Leading axes that are tiles one by one.
  package var tileAxes: Int
  /// Elements (columns, rows, parts of a slice) of a tile.
  package var block: Int
}
