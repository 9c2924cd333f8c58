import DLCGraph
import DLCKernel

extension IndexAttributes {
  /// Coordinates along the result's (or the updates') axes that are not axes of slices.
  private func batch(_ c: [IndexExpression]) -> [IndexExpression] {
    c.indices.filter { !offsetAxes.contains($0) }.map { c[$0] }
  }

  /// Where a component of the index vector for a result coordinate stands.
  func indexPlace(_ c: [IndexExpression], _ component: Int, _ indices: [Int])
    -> [IndexExpression]
  {
    var place = batch(c)
    if vectorAxis < indices.count { place.insert(IndexExpression(component), at: vectorAxis) }
    return place
  }

  /// The position along the operand's axes before the index vector is added.
  func offsets(_ c: [IndexExpression], rank: Int, indicesRank: Int) -> [IndexExpression] {
    var position = [IndexExpression](repeating: IndexExpression(0), count: rank)
    let order = (0..<indicesRank).filter { $0 != vectorAxis }
    let batch = batch(c)
    for (axis, from) in zip(operandBatchAxes, indicesBatchAxes) {
      position[axis] = batch[order.firstIndex(of: from)!]
    }
    for (axis, from) in zip(windowAxes(rank), offsetAxes) { position[axis] = c[from] }
    return position
  }
}
