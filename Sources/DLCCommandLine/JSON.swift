import DLCFormats

/// A value of JSON, for machine-readable results.
indirect enum JSON: CustomStringConvertible {
  case text(String)
  case integer(Int)
  case flag(Bool)
  /// What is not finite becomes null: JSON has no such numbers.
  case number(Double)
  /// With so many digits after the point.
  case rounded(Double, digits: Int)
  case list([JSON])
  case members(names: [String], values: [JSON])

  // Tuples of a type inside of itself lead some orders of compilation in a circle.
  static func object(_ members: [(name: String, value: JSON)]) -> JSON {
    .members(names: members.map(\.name), values: members.map(\.value))
  }

  var description: String {
    switch self {
    case .text(let text): json(text)
    case .integer(let value): "\(value)"
    case .flag(let value): "\(value)"
    case .number(let value): value.isFinite ? "\(value)" : "null"
    case .rounded(let value, let digits): value.isFinite ? fixed(value, digits) : "null"
    case .list(let values): "[\(values.map(\.description).joined(separator: ","))]"
    case .members(let names, let values):
      "{\(zip(names, values).map { "\(json($0)):\($1)" }.joined(separator: ","))}"
    }
  }
}
