package import DLCTensor

/// Throws a type error unless the constraint holds. Labels are what tests and `dlc check` name.
package func require(_ holds: Bool, _ label: String, _ message: @autoclosure () -> String)
  throws(DLCError)
{
  if !holds { throw DLCError(.type, "\(message()) (\(label))") }
}

package func requireCount(_ operands: [TensorType], _ count: Int) throws(DLCError) {
  guard operands.count == count else {
    throw DLCError(
      .type, "takes \(counted(count, "operand")), not \(operands.count) (operand-count)")
  }
}

package func requireSameType(_ operands: [TensorType]) throws(DLCError) {
  for type in operands.dropFirst() where type != operands[0] {
    throw DLCError(.type, "operands differ: \(operands[0]) and \(type) (same-type)")
  }
}

package func requireAxes(_ axes: [Int], rank: Int, _ label: String) throws(DLCError) {
  try require(
    Set(axes).count == axes.count && axes.allSatisfy { $0 >= 0 && $0 < rank }, label,
    "axes \(axes) are not distinct axes of a tensor of rank \(rank)")
}

/// Two sizes are known to differ: unequal symbolic sizes may still be equal once bound.
package func requireEqual(_ a: Size, _ b: Size, _ label: String) throws(DLCError) {
  try require(a == b, label, "sizes \(a) and \(b) differ")
}

/// The arguments of regions must have the types of the operands that they are given.
func requireArguments(_ arguments: [Argument], _ operands: [TensorType], _ label: String)
  throws(DLCError)
{
  try require(
    arguments.map(\.type) == operands, label,
    "the regions take \(arguments.map(\.type)), the operands are \(operands)")
}

/// A region for samples.
func regionSample(_ types: [TensorType], _ body: (FunctionBuilder, [Value]) -> [Value]) -> Graph {
  FunctionBuilder().region(types, body).graph!
}

/// A window along an axis must not be longer than the axis, padding included. An axis without elements
/// has no windows of one element.
func requireWindow(_ extent: Int, fits padded: Size, _ axis: Int, _ x: TensorType)
  throws(DLCError)
{
  guard let size = padded.constant, size < extent, size != 0 || extent != 1 else { return }
  throw DLCError(
    .type, "a window of \(extent) does not fit into axis \(axis) of \(x) (window-size)")
}

/// The type of sums of products, for operands that are multiplied or convolved.
/// - Parameter sumType: the type that both are converted to; nil: the one that they have.
func productType(_ a: DataType, _ b: DataType, into sumType: DataType?, _ verb: String)
  throws(DLCError) -> DataType
{
  guard let sumType else {
    try require(a == b && a != .bool, "element-type", "\(a) and \(b) cannot be \(verb)")
    return a
  }
  let isWide = [DataType.float32, .float64, .int32, .int64].contains(sumType)
  try require(
    isWide, "sum-type", "products are summed in float32, float64, int32 or int64, not \(sumType)")
  for type in [a, b] {
    try require(
      type.isFloat == sumType.isFloat, "element-type",
      "\(type) is summed in \(type.isFloat ? "float32 or float64" : "int32 or int64"), not \(sumType)"
    )
    try require(
      type != .bool && type.widens(to: sumType),
      "element-type", "\(sumType) does not hold every \(type)")
  }
  return sumType
}
