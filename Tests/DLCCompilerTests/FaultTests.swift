import DLCFormats
import DLCTensor
import Foundation
import Testing

/// Full disks, closed outputs, limits, and a cache that somebody else has changed.
@Suite struct FaultTests {
  /// Runs a line of the shell in a folder of its own, where `$D` is the command and `$G` the graphs.
  static func shell(_ line: String, in folder: String) throws -> (
    status: Int32, out: String, error: String
  ) {
    // A shell says 128 more than the signal that ended its command.
    try CommandLineTests.launch(
      URL(fileURLWithPath: "/bin/bash"), ["-c", line], in: folder,
      environment: [
        "D": CommandLineTests.command.path, "G": DigitsTests.folder,
        "XDG_CACHE_HOME": folder + "/cache",
      ])
  }

  static func folder() throws -> String {
    let path = ProgramTests.temporary()
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  static func inFolder(_ body: (String) throws -> Void) throws {
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try Npz.write(
      [("x", Tensor([2, 3], [1, 2, 3, 4, 5, 6] as [Float]))], to: "\(folder)/x.npz")
    try body(folder)
  }

  static let tanh = "$D run $G/equations/activations/tanh.pb --function forward --inputs x.npz"

  @Test(arguments: [
    ("TANH >/dev/full", Int32(1), "dlc: error: cannot write to standard output: No space left"),
    ("TANH >&-", 1, "dlc: error: cannot write to standard output: Bad file descriptor"),
    ("TANH --json >/dev/full", 1, "dlc: error: cannot write"),
    ("TANH --outputs /dev/full", 1, "dlc: error: cannot write '/dev/full'"),
    ("TANH --outputs - >/dev/full", 1, "dlc: error: cannot write '-'"),
    ("$D show $G/digits_mlp.pb >/dev/full", 1, "dlc: error: cannot write"),
    ("$D zoo list >/dev/full", 1, "dlc: error: cannot write"),
    ("$D --help >/dev/full", 1, "dlc: error: cannot write"),
    ("$D check $G/digits_mlp.pb >&-", 1, "dlc: error: cannot write"),
    ("$D compile $G/digits_mlp.pb -o a.dlc >/dev/full", 1, "dlc: error: cannot write"),
    ("$D compile $G/digits_mlp.pb --emit llvm >/dev/full", 1, "dlc: error: cannot write"),
    ("$D compile $G/digits_mlp.pb -o a.dlc --print-after all >/dev/full", 1, "dlc: error: cannot"),
    // Nobody reads.
    ("set -o pipefail; $D zoo list | true; sleep 0; exit 0", 0, ""),
    // Notes are lost, and nothing else.
    ("TANH 2>&-", 0, ""), ("TANH 2>/dev/full", 0, ""), ("$D nonsense 2>&-", 64, ""),
    ("$D run $G/digits_mlp.pb --inputs $G/digits_test.npz --outputs o.npz 2>&- && $D run none 2>&- || test -s o.npz && $D run $G/digits_mlp.pb --inputs $G/digits_test.npz --outputs p.npz 2>/dev/null && cmp o.npz p.npz", 0, ""),
    // What the limit on the size of files stops leaves nothing behind.
    ("ulimit -f 1; TANH --state s.st --outputs o.npz", 0, ""),
    ("ulimit -f 8; $D run $G/digits_mlp.pb --inputs $G/digits_test.npz --outputs o.npz; test $? = 1 && ! ls *.npz.* o.npz 2>/dev/null", 0, "dlc: Graphs"),
    ("ulimit -f 1; export XDG_CACHE_HOME=$PWD/small; TANH", 0, ""),
    ("ulimit -f 1; $D compile $G/digits_mlp.pb -o a.dlc; test $? = 1 && ! ls a.dlc* 2>/dev/null", 0, ""),
    ("export XDG_CACHE_HOME=/dev/null/none; TANH", 0, ""),
  ]) func outputsThatCannotBeWritten(_ line: String, _ status: Int32, _ start: String) throws {
    try Self.inFolder { folder in
      let line = line.replacingOccurrences(of: "TANH", with: Self.tanh)
      let result = try Self.shell(line, in: folder)
      #expect(result.status == status, "\(line): \(result)")
      if start.hasSuffix(":") || status != 0 {
        #expect(result.error.hasPrefix(start), "\(line): \(result.error)")
      }
    }
  }

  @Test func resultsGoWhereTheyAreSent() throws {
    try Self.inFolder { folder in
      let line =
        "ln -s to.npz link; TANH --outputs to.npz && TANH --outputs link && TANH --outputs - >out.npz && mkfifo p && (cat p >piped.npz & TANH --outputs p; wait) && cmp to.npz out.npz && cmp to.npz piped.npz && test -L link"
      let result = try Self.shell(
        line.replacingOccurrences(of: "TANH", with: Self.tanh), in: folder)
      #expect(result.status == 0, "\(result)")
      #expect(try Npz.read("\(folder)/out.npz")[0].value.doubles[0] == Double(Foundation.tanh(Float(1))))
    }
  }

  /// Entries under the names of others, in place of files, of other users, and damaged.
  @Test func theCacheIsNotBelieved() throws {
    try Self.inFolder { folder in
      func run(_ model: String, _ before: String = "true") throws -> String {
        let result = try Self.shell(
          "\(before) && timeout 60 $D run $G/equations/activations/\(model).pb --function forward --inputs x.npz",
          in: folder)
        #expect(result.status == 0, "\(model) after \(before): \(result)")
        return result.out
      }
      let (tanh, sigmoid) = (try run("tanh"), try run("sigmoid"))
      #expect(tanh != sigmoid)
      for kind in ["dlc", "o"] {
        let swap = "set -- cache/dlc/*.\(kind) && test $# = 2 && mv $1 s && mv $2 $1 && mv s $2"
        #expect(try run("tanh", swap) == tanh)
        #expect(try run("sigmoid") == sigmoid)
      }
      let flip =
        "for f in cache/dlc/*; do printf '\\377' | dd of=$f bs=1 seek=700 conv=notrunc status=none; done"
      #expect(try run("tanh", flip) == tanh)
      // What is in the way stays, and is not waited for.
      let pipes = "for f in cache/dlc/*; do rm $f && mkfifo $f; done"
      #expect(try run("tanh", pipes) == tanh)
      #expect(try run("tanh", "for f in cache/dlc/*; do rm $f && mkdir $f; done") == tanh)
      #expect(try run("tanh", "for f in cache/dlc/*; do rmdir $f && ln -s /dev/zero $f; done") == tanh)
      #expect(try run("tanh", "rm -r cache/dlc && ln -s nowhere cache/dlc") == tanh)
      // Entries that others may write are not used, nor is a directory.
      let marks = "rm cache/dlc; touch mark"
      #expect(try run("tanh", marks) == tanh)
      for change in ["chmod o+w cache/dlc/*", "chmod 777 cache/dlc"] {
        // Were they used, sigmoid's entry under tanh's key would give sigmoid's numbers.
        #expect(try run("tanh", change) == tanh)
        let left = try Self.shell("find cache/dlc -newer mark -perm -o+w | head -1", in: folder)
        #expect(!left.out.isEmpty, "\(change): the entries are replaced, not left")
      }
    }
  }

  /// Less memory than a program needs is an error that says for what, whatever the limit.
  @Test(arguments: [100, 230, 270, 340, 600]) func littleMemory(_ megabytes: Int) throws {
    try Self.inFolder { folder in
      for line in [
        Self.tanh, "$D bench $G/digits_mlp.pb --dim n=1000000 --runs 1 --warmup 0",
        "$D run $G/digits_cnn.pb --inputs $G/digits_test.npz",
        "$D compile $G/digits_cnn.pb -o a.dlc --no-cache",
        "$D train $G/digits_mlp.pb --data $G/digits_test.npz --epochs 1 --batch 20",
        "$D run $G/digits_mlp.pb --reference --dim n=2000000",
      ] {
        let result = try Self.shell(
          "exec timeout -k 1 100 prlimit --as=\(megabytes << 20) \(line)", in: folder)
        // 127: the loader of the system cannot even start the command.
        #expect([0, 1, 127].contains(result.status), "\(megabytes) MiB: \(line): \(result)")
        if result.status == 1 {
          #expect(result.error.contains("dlc: error: "), "\(result.error)")
          #expect(!result.error.contains("not installed"))
        }
      }
    }
  }

  @Test func jsonInEveryCase() throws {
    try Self.inFolder { folder in
      for line in [
        "TANH --json", "TANH --json --outputs o.npz", "TANH --json --function none",
        "$D check none.pb --json", "$D show x.npz --json", "$D bench --json",
        "$D compile $G/digits_mlp.pb --json --dim n=-1 -o a.dlc", "$D check $G/digits_mlp.pb --json",
        "$D cache info --json", "$D zoo list --json", "$D cache clear --json", "$D run --json --nonsense",
      ] {
        let result = try Self.shell(
          line.replacingOccurrences(of: "TANH", with: Self.tanh), in: folder)
        let object = try? JSONSerialization.jsonObject(with: Data(result.out.utf8))
        #expect(object is [String: Any], "\(line): \(result)")
        if result.status != 0 {
          let error = (object as? [String: Any])?["error"] as? [String: Any]
          #expect(error?["message"] is String, "\(line): \(result)")
        }
      }
    }
  }

  @Test(arguments: [
    ("$D rnu", Int32(64), "there is no verb 'rnu'; did you mean 'run'?"),
    ("$D zoo biuld", 64, "did you mean 'build'?"),
    ("$D run $G/digits_mlp.pb --function forwrad", 1, "did you mean 'forward'?"),
    ("$D run $G/digits_mlp.pb --inptus x.npz", 64, "Did you mean '--inputs'?"),
    ("$D compile $G/digits_mlp.pb --disable fold-constant", 64, "did you mean 'fold-constants'?"),
    ("$D zoo build digits_mpl", 64, "did you mean 'digits_mlp'?"),
    ("$D run $G/digits_mlp.pb --dim n=-3", 64, "cannot be negative"),
    ("$D bench $G/digits_mlp.pb --runs -1", 64, "--runs must be positive"),
    ("$D bench $G/digits_mlp.pb --warmup -1", 64, "--warmup cannot be negative"),
    ("$D run $G/digits_mlp.pb --threads -2", 64, "--threads must be"),
    ("$D run $G/digits_mlp.pb --seed -2", 64, "--seed"),
    ("$D compile $G/digits_mlp.pb --rewrite-limit -1", 64, "--rewrite-limit cannot be negative"),
    ("$D grad $G/digits_mlp.pb --of loss -o a.pb --order -1", 64, "--order must be"),
    ("$D check x.npz", 1, "[x.npz]"), ("$D run x.npz", 1, "[x.npz]"),
    ("$D run $G/digits_mlp.pb --params x.npz", 1, "[x.npz]"),
    ("$D run $G/digits_mlp.pb --inputs x.npz", 1, "input 'images' is missing [x.npz]"),
    ("$D run $G/digits_mlp.pb --params $G/digits_cnn_weights.safetensors", 1, "'K1', 'K2'"),
    ("$D run $G/digits_mlp.pb --inputs $G/digits_test.npz --params part.st", 1, "parameters 'W2', 'b2' [part.st]; --init"),
    ("$D run $G/digits_mlp.pb --inputs $G/digits_test.npz --params part.st --reference", 1, "'W2', 'b2' [part.st]"),
    ("$D run $G/digits_mlp.pb --inputs $G/digits_test.npz --params part.st --init 3", 0, ""),
    ("$D run $G/digits_mlp.pb --inputs $G/digits_test.npz", 0, "untrained"),
    ("$D compile $G/digits_mlp.pb -o m.dlc >o && $D run m.dlc --inputs $G/digits_test.npz --params part.st", 1, "'W2', 'b2' [part.st]"),
    ("$D compile $G/digits_mlp.pb -o m.dlc >o && $D run m.dlc --params $G/digits_cnn_weights.safetensors", 1, "another model"),
    ("$D compile $G/digits_mlp.pb -o m.dlc >o && $D bench m.dlc --function loss", 64, "measured as it is"),
    ("$D compile $G/digits_mlp.pb -o m.dlc >o && $D bench m.dlc --dim n=7", 64, "measured as it is"),
    ("$D train $G/digits_mlp.pb --data $G/digits_test.npz --batch 270 --epochs 1", 0, "the weights are not kept"),
    ("$D train $G/digits_mlp.pb --data $G/digits_test.npz --batch 270 --epochs 1 --checkpoint ck --resume", 0, "nothing to resume in ck"),
  ]) func mistakesAreNamed(_ line: String, _ status: Int32, _ words: String) throws {
    try Self.inFolder { folder in
      let weights = try Safetensors.read("\(DigitsTests.folder)/digits_mlp_weights.safetensors")
      try Safetensors.write(weights.filter { $0.name.hasSuffix("1") }, to: "\(folder)/part.st")
      let result = try Self.shell(line, in: folder)
      #expect(result.status == status && (words.isEmpty || result.error.contains(words)), "\(line): \(result)")
    }
  }

  /// The summary of arrays that hold what is no number.
  @Test func summariesAreTrue() throws {
    try Self.inFolder { folder in
      try Npz.write(
        [("x", Tensor([2, 2], [1, .nan, -.infinity, .infinity] as [Float]))], to: "\(folder)/x.npz")
      let out = try Self.shell(
        "$D run $G/equations/activations/relu.pb --function forward --inputs x.npz", in: folder
      ).out
      let row = (out.split(separator: "\n").last ?? "").split(separator: " ")
      #expect(row.filter { $0 == "nan" }.count >= 3, "\(out)")
      #expect(out.contains("1 nan") && out.contains("1 inf"), "\(out)")
    }
  }
}
