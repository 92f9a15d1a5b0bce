import com.google.gson.Gson;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import software.amazon.awssdk.services.ssm.SsmClient;
import software.amazon.awssdk.services.ssm.model.Parameter;
import software.amazon.awssdk.services.ssm.model.ParameterNotFoundException;

/** The AWS SDK for Java 2 against whatever AWS_ENDPOINT_URL_SSM names: Check expected.json */
class Check {
    record Ask(String string, String secureString, List<String> many, String absent, String path) {}

    record Wanted(String type, String value, long version) {}

    record Expected(Ask ask, TreeMap<String, Wanted> parameters) {}

    static final Instant YEAR_2020 = Instant.parse("2020-01-01T00:00:00Z");

    static Map<String, Wanted> wanted;

    public static void main(String[] args) throws Exception {
        Expected expected = new Gson().fromJson(Files.readString(Path.of(args[0])), Expected.class);
        Ask ask = expected.ask();
        wanted = expected.parameters();
        try (SsmClient ssm = SsmClient.create()) {
            for (String name : List.of(ask.string(), ask.secureString())) {
                check("GetParameter", name, ssm.getParameter(r -> r.name(name).withDecryption(true)).parameter());
            }

            List<String> names = Stream.concat(Stream.of(ask.absent()), ask.many().stream()).toList();
            var many = ssm.getParameters(r -> r.names(names).withDecryption(true));
            same("GetParameters, InvalidParameters", List.of(ask.absent()), many.invalidParameters());
            same("GetParameters, names", ask.many().stream().sorted().toList(),
                    many.parameters().stream().map(Parameter::name).sorted().toList());
            many.parameters().forEach(parameter -> check("GetParameters", parameter.name(), parameter));

            List<Parameter> listed = new ArrayList<>();
            ssm.getParametersByPathPaginator(r -> r.path(ask.path()).recursive(true).withDecryption(true).maxResults(3))
                    .forEach(page -> {
                        if (page.parameters().size() > 3) {
                            fail("GetParametersByPath: a page of " + page.parameters().size());
                        }
                        listed.addAll(page.parameters());
                    });
            same("GetParametersByPath, names", List.copyOf(wanted.keySet()), listed.stream().map(Parameter::name).toList());
            listed.forEach(parameter -> check("GetParametersByPath", parameter.name(), parameter));

            try {
                ssm.getParameter(r -> r.name(ask.absent()));
                fail("GetParameter " + ask.absent() + ": expected ParameterNotFoundException, got a parameter");
            } catch (ParameterNotFoundException absent) {
                System.out.println("AWS SDK for Java 2: " + listed.size() + " parameters as expected");
            }
        }
    }

    static void check(String call, String name, Parameter got) {
        same(call + ", name", name, got.name());
        same(call + " " + name, wanted.get(name), new Wanted(got.typeAsString(), got.value(), got.version()));
        // Seconds taken for milliseconds, or the other way round, are decades off.
        Instant modified = got.lastModifiedDate();
        if (modified == null || modified.isBefore(YEAR_2020) || modified.isAfter(Instant.now().plus(Duration.ofDays(1)))) {
            fail(call + " " + name + ": LastModifiedDate is " + modified);
        }
    }

    static void same(String what, Object wanted, Object got) {
        if (!wanted.equals(got)) {
            fail(what + ": expected " + wanted + ", got " + got);
        }
    }

    static void fail(String message) {
        System.err.println("AWS SDK for Java 2: " + message);
        System.exit(1);
    }
}
