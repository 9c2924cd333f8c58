import DLCFormats

/// A value of JSON, for machine-readable results.
indirect enum JSON: CustomStringConvertible {
  case text(String)
  case integer(Int)
  /// What is not finite becomes null: JSON has no such numbers.
  case number(Double)
  case list([JSON])
  case object([(name: String, value: JSON)])

  var description: String {
    switch self {
    case .text(let text): json(text)
    case .integer(let value): "\(value)"
    case .number(let value): value.isFinite ? "\(value)" : "null"
    case .list(let values): "[\(values.map(\.description).joined(separator: ","))]"
    case .object(let members):
      "{\(members.map { "\(json($0.name)):\($0.value)" }.joined(separator: ","))}"
    }
  }
}
